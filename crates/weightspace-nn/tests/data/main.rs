//! Data sets: tiny files in every published format, hostile ones, folders of images, preprocessing,
//! and, where `WEIGHTSPACE_DATA` names them, the real ones.

mod augment;
mod built_in;
mod folder;
mod hostile;
mod preprocessing;
mod readers;
mod real;
mod shift;
mod tiny;
