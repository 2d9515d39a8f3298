//! Examples of Macula.
