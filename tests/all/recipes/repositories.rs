//! Copies of files and their history: rsync, Subversion, CVS.
