//! The grammar of specifications: `NAME[:ARGUMENT[,ARGUMENT]...]`.

use super::{Arch, find, list, printable};
use crate::net::Activation;

/// An argument of a specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `784-128-10`: lengths of an MLP's vectors, input first.
    Widths,
    /// `gelu`, or `activation=gelu`: the non-linearity.
    Activation,
    /// `classes=N`.
    Classes,
    /// `in=N`: channels of the input.
    InChannels,
    /// `size=N`: height and width of the input.
    Size,
    /// `dropout=P`.
    Dropout,
    /// `names=WHOSE`: other module names for the same layers.
    Names,
}

impl Argument {
    /// Every argument, in the order of the canonical form.
    pub const ALL: [Argument; 7] = [
        Argument::Widths,
        Argument::Activation,
        Argument::Classes,
        Argument::InChannels,
        Argument::Size,
        Argument::Dropout,
        Argument::Names,
    ];

    /// The word before `=`.
    pub const fn key(self) -> &'static str {
        match self {
            Argument::Widths => "widths",
            Argument::Activation => "activation",
            Argument::Classes => "classes",
            Argument::InChannels => "in",
            Argument::Size => "size",
            Argument::Dropout => "dropout",
            Argument::Names => "names",
        }
    }
}

/// What a specification may leave open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArchOptions {
    /// Number of classes.
    pub classes: Option<usize>,
    /// Channels of the input.
    pub in_channels: Option<usize>,
    /// Height and width of the input.
    pub size: Option<usize>,
    /// Non-linearity.
    pub activation: Option<Activation>,
    /// Probability of dropout.
    pub dropout: Option<f32>,
}

/// Why a specification gives no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchError {
    /// No architecture of that name.
    #[error("unknown architecture `{}`; known are {}", printable(name), known_names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// An argument that the architecture does not take, or a value that it cannot have.
    #[error("architecture `{}`: {}", printable(spec), printable(reason))]
    Argument {
        /// The specification.
        spec: String,
        /// What is wrong with which argument.
        reason: String,
    },
}

fn known_names() -> String {
    list().map(|arch| arch.name).collect::<Vec<_>>().join(" ")
}

/// Every argument's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub widths: Vec<usize>,
    pub activation: Activation,
    pub classes: usize,
    pub in_channels: usize,
    pub size: usize,
    pub dropout: f32,
    /// Empty for the architecture's own names.
    pub names: String,
}

impl Settings {
    /// What an architecture has when no argument is given.
    pub fn defaults(arch: &Arch) -> Self {
        let d = arch.defaults;
        Settings {
            widths: Vec::new(),
            activation: d.activation,
            classes: d.classes,
            in_channels: d.in_channels,
            size: d.size,
            dropout: d.dropout,
            names: String::new(),
        }
    }

    /// Names that say what is the default anyway are no names: one network has one canonical form.
    fn normalise(&mut self, arch: &Arch) {
        let numbered = |names: &[&str]| (0..).zip(names).all(|(i, n)| *n == (2 * i).to_string());
        if arch.takes(Argument::Widths) && self.module_names().is_some_and(|n| numbered(&n)) {
            self.names.clear();
        }
    }

    /// Module names of an MLP's layers, when they are given.
    pub fn module_names(&self) -> Option<Vec<&str>> {
        (!self.names.is_empty()).then(|| self.names.split('+').collect())
    }

    fn set(&mut self, argument: Argument, value: &str) -> Result<(), String> {
        match argument {
            Argument::Widths => {
                self.widths = value.split('-').map(number).collect::<Result<_, _>>()?;
            }
            Argument::Activation => self.activation = activation(value)?,
            Argument::Classes => self.classes = number(value)?,
            Argument::InChannels => self.in_channels = number(value)?,
            Argument::Size => self.size = number(value)?,
            Argument::Dropout => {
                self.dropout = value.parse().map_err(|_| format!("`{value}` is no probability"))?;
            }
            Argument::Names => self.names = value.to_string(),
        }
        Ok(())
    }

    fn apply(&mut self, arch: &Arch, options: &ArchOptions) {
        fn replace<T: Copy>(allowed: bool, value: &mut T, option: Option<T>) {
            if let Some(option) = option.filter(|_| allowed) {
                *value = option;
            }
        }
        replace(arch.takes(Argument::Classes), &mut self.classes, options.classes);
        replace(arch.takes(Argument::InChannels), &mut self.in_channels, options.in_channels);
        replace(arch.takes(Argument::Size), &mut self.size, options.size);
        replace(arch.takes(Argument::Activation), &mut self.activation, options.activation);
        replace(arch.takes(Argument::Dropout), &mut self.dropout, options.dropout);
    }

    /// Refuses what would overflow, or leave a layer without output: networks are then safe to build.
    pub fn validate(&self, arch: &Arch) -> Result<(), String> {
        let within = |argument: Argument, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(format!("{}={value} is not within {min} to {max}", argument.key()))
        };
        within(Argument::Classes, self.classes, 1, 1 << 20)?;
        within(Argument::InChannels, self.in_channels, 1, 1 << 12)?;
        within(Argument::Size, self.size, arch.defaults.min_size, 1 << 12)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("dropout={} is not within 0 to 1", self.dropout));
        }
        if arch.takes(Argument::Widths) {
            self.validate_chain()
        } else if !self.names.is_empty() && !arch.namings().any(|names| names == self.names) {
            let known = arch.namings().collect::<Vec<_>>().join(" ");
            Err(format!("names={} is unknown; known: {known}", self.names))
        } else {
            Ok(())
        }
    }

    fn validate_chain(&self) -> Result<(), String> {
        let layers = self.widths.len().saturating_sub(1);
        if !(1..=1000).contains(&layers) {
            return Err(
                "the lengths of 1 to 1000 layers are needed, for instance 784-128-10".into()
            );
        }
        if let Some(n) = self.widths.iter().find(|n| !(1..=1 << 24).contains(*n)) {
            return Err(format!("a vector of {n} values is not within 1 to {}", 1 << 24));
        }
        let Some(names) = self.module_names() else { return Ok(()) };
        if names.len() != layers {
            return Err(format!("{} names for {layers} layers", names.len()));
        }
        if let Some(name) = names.iter().find(|n| !is_module_name(n)) {
            return Err(format!("`{}` cannot be a module's name here", name));
        }
        match (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            Some(i) => Err(format!("two layers are named {}", names[i])),
            None => Ok(()),
        }
    }
}

/// True for module names that can stand in a specification.
pub(super) fn is_module_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c))
}

fn number(text: &str) -> Result<usize, String> {
    // `parse` alone would take a sign, which the canonical form never has.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("`{text}` is no number"))
}

fn activation(text: &str) -> Result<Activation, String> {
    Activation::ALL.into_iter().find(|a| a.name() == text).ok_or_else(|| {
        let known = Activation::ALL.map(Activation::name).join(" ");
        format!("`{text}` is no activation; known: {known}")
    })
}

/// The argument and its value: `key=value`, or a value that says by itself what it is.
fn split_argument(text: &str) -> Result<(Argument, &str), String> {
    if let Some((key, value)) = text.split_once('=') {
        let argument = Argument::ALL.into_iter().find(|a| a.key() == key);
        return Ok((argument.ok_or_else(|| format!("unknown argument `{key}`"))?, value));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok((Argument::Widths, text));
    }
    match activation(text) {
        Ok(_) => Ok((Argument::Activation, text)),
        Err(_) => Err(format!("unknown argument `{text}`")),
    }
}

/// Reads a specification; the settings are valid for the architecture.
pub(super) fn parse(
    spec: &str,
    options: &ArchOptions,
) -> Result<(&'static Arch, Settings), ArchError> {
    let (name, arguments) = match spec.split_once(':') {
        Some((name, arguments)) => (name, Some(arguments)),
        None => (spec, None),
    };
    let arch = find(name).ok_or_else(|| ArchError::Unknown { name: name.to_string() })?;
    let settings = parse_arguments(arch, arguments, options)
        .map_err(|reason| ArchError::Argument { spec: spec.to_string(), reason })?;
    Ok((arch, settings))
}

fn parse_arguments(
    arch: &Arch,
    arguments: Option<&str>,
    options: &ArchOptions,
) -> Result<Settings, String> {
    let mut settings = Settings::defaults(arch);
    settings.apply(arch, options);
    let mut given = Vec::new();
    for text in arguments.into_iter().flat_map(|a| a.split(',')) {
        let (argument, value) = split_argument(text)?;
        if !arch.takes(argument) {
            let known: Vec<_> = arch.arguments.iter().map(|a| a.key()).collect();
            let key = argument.key();
            return Err(format!("`{key}` is no argument of it; known: {}", known.join(" ")));
        }
        if given.contains(&argument) {
            return Err(format!("`{}` is given twice", argument.key()));
        }
        given.push(argument);
        settings.set(argument, value)?;
    }
    settings.validate(arch)?;
    settings.normalise(arch);
    Ok(settings)
}

/// The canonical specification: arguments in a fixed order, defaults left out.
pub(super) fn canonical(arch: &Arch, settings: &Settings) -> String {
    let defaults = Settings::defaults(arch);
    let text = |argument: Argument, s: &Settings| match argument {
        Argument::Widths => s.widths.iter().map(usize::to_string).collect::<Vec<_>>().join("-"),
        Argument::Activation => s.activation.name().to_string(),
        Argument::Classes => s.classes.to_string(),
        Argument::InChannels => s.in_channels.to_string(),
        Argument::Size => s.size.to_string(),
        Argument::Dropout => s.dropout.to_string(),
        Argument::Names => s.names.clone(),
    };
    let mut arguments = Vec::new();
    for argument in Argument::ALL.into_iter().filter(|&a| arch.takes(a)) {
        let value = text(argument, settings);
        match argument {
            _ if value == text(argument, &defaults) => {}
            Argument::Widths | Argument::Activation => arguments.push(value),
            _ => arguments.push(format!("{}={value}", argument.key())),
        }
    }
    if arguments.is_empty() {
        arch.name.to_string()
    } else {
        format!("{}:{}", arch.name, arguments.join(","))
    }
}
