//! Net news (NNTP).
