//! Mail that is sent (SMTP) and fetched (POP3, IMAP).
