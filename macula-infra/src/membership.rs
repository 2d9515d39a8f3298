//! Who is in the mesh, and who has gone.
