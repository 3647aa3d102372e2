//! The commands of docs/recipes.md: each runs here as it stands there, against a real server, through dante with user and password.

mod browsers;
mod chat;
mod desk;
mod ftp;
mod mail;
mod news;
mod remote;
mod repositories;
