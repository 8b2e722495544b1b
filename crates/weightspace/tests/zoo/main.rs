//! Zoos: what PyTorch wrote, both layouts, alignment, tables and statistics, the commands.

mod align;
mod commands;
mod description;
mod fixtures;
mod hostile;
mod layouts;
mod population;
#[path = "../program/mod.rs"]
mod program;
mod tables;
