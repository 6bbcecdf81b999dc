//! layotto
