//! FTP, in passive and in active mode.
