//! What pods become.
