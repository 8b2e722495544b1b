//! Zoos: what PyTorch wrote, both layouts, tables and statistics, the commands.

mod commands;
mod description;
mod fixtures;
mod hostile;
mod layouts;
mod population;
mod tables;
