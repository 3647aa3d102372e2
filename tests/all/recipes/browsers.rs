//! Browsers without a window.
