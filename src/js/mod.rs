//! The only code that knows N-API.
