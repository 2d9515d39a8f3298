//! What users of Macula import.
