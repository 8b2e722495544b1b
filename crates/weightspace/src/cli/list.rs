//! `weightspace list`: everything that has a name, straight from the tables.

use std::io::{self, Write};

use serde::Serialize;
use weightspace::method::METHODS;
use weightspace::sane::presets::PRESETS as AUTOENCODERS;
use weightspace::zoo::presets::PRESETS as ZOOS;
use weightspace_core::basis::BASES;
use weightspace_core::checkpoint::FORMATS;
use weightspace_nn::arch;
use weightspace_nn::data::{CORRUPTIONS, DATASETS, PRESETS};

use super::table::{Align, Table};
use super::train::presets::{PRESETS as RECIPES, Preset as RecipePreset};
use super::{Global, Outcome};

#[derive(Serialize)]
struct Tables {
    architectures: Vec<Architecture>,
    data: Vec<Data>,
    corruptions: Vec<Damage>,
    formats: Vec<Entry>,
    methods: Vec<Entry>,
    bases: Vec<Entry>,
    preprocessing: Vec<Preset>,
    training: Vec<Recipe>,
    zoos: Vec<Entry>,
    /// Presets of `sane pretrain`.
    autoencoders: Vec<Entry>,
}

#[derive(Serialize)]
struct Architecture {
    name: &'static str,
    title: &'static str,
    reference: &'static str,
    /// What may follow a colon.
    arguments: Vec<&'static str>,
}

#[derive(Serialize)]
struct Data {
    name: &'static str,
    title: &'static str,
    source: &'static str,
    /// Channels, height, width; `null` if the files decide.
    shape: Option<[usize; 3]>,
    /// Published numbers of training and test images; 0 if the files decide.
    images: [usize; 2],
    preprocessing: &'static str,
}

#[derive(Serialize)]
struct Damage {
    name: &'static str,
    title: &'static str,
    /// The parameter at severities 1 to 5.
    levels: &'static [f32],
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    title: &'static str,
}

#[derive(Serialize)]
struct Preset {
    name: &'static str,
    mean: &'static [f32],
    std: &'static [f32],
}

#[derive(Serialize)]
struct Recipe {
    name: &'static str,
    title: &'static str,
    /// What the preset stands for.
    flags: String,
}

/// Runs the command.
pub fn run(global: &Global) -> anyhow::Result<Outcome> {
    let tables = Tables::collect();
    global.print(&tables, |out| tables.write(out))?;
    Ok(Outcome::Done)
}

impl Tables {
    fn collect() -> Self {
        let architectures = arch::list().map(|arch| Architecture {
            name: arch.name,
            title: arch.title,
            reference: arch.reference,
            arguments: arch.arguments.iter().map(|argument| argument.key()).collect(),
        });
        let data = DATASETS.iter().map(|data| Data {
            name: data.name,
            title: data.title,
            source: data.source,
            shape: data.shape,
            images: data.images,
            preprocessing: data.preprocessing,
        });
        let corruptions =
            CORRUPTIONS.iter().map(|c| Damage { name: c.name, title: c.title, levels: &c.levels });
        let formats = FORMATS.iter().map(|f| Entry { name: f.name, title: f.description });
        let bases = BASES.iter().map(|b| Entry { name: b.name, title: b.title });
        let methods = METHODS.iter().map(|m| Entry { name: m.method.name(), title: m.title });
        let presets = PRESETS.iter().map(|p| Preset { name: p.name, mean: p.mean, std: p.std });
        let recipe = |p: &RecipePreset| Recipe { name: p.name, title: p.title, flags: p.line() };
        Tables {
            architectures: architectures.collect(),
            data: data.collect(),
            corruptions: corruptions.collect(),
            formats: formats.collect(),
            methods: methods.collect(),
            bases: bases.collect(),
            preprocessing: presets.collect(),
            training: RECIPES.iter().map(recipe).collect(),
            zoos: ZOOS.iter().map(|z| Entry { name: z.name, title: z.title }).collect(),
            autoencoders: AUTOENCODERS
                .iter()
                .map(|a| Entry { name: a.name, title: a.title })
                .collect(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let architectures = self.architectures.iter().map(|arch| {
            let title = match arch.arguments.is_empty() {
                true => arch.title.to_owned(),
                false => format!("{} [{}]", arch.title, arch.arguments.join(", ")),
            };
            (arch.name, title)
        });
        section(out, "Architectures: NAME[:ARGUMENT,...], arguments in brackets", architectures)?;
        let data = self.data.iter().map(|data| (data.name, data.title.to_owned()));
        section(out, "\nData sets", data)?;
        let damage = |c: &Damage| (c.name, format!("{}: {:?}", c.title, c.levels));
        let classes = ("classes:N,...", "only images of these labels".to_owned());
        let size = ("size:N", "images scaled to N x N".to_owned());
        let crop = ("crop:N", "the middle N x N of images whose shorter side is 8/7 N".to_owned());
        let channels =
            ("channels:N", "grey images with 3 equal channels, or colours as 1".to_owned());
        let shifts = self.corruptions.iter().map(damage).chain([classes, size, crop, channels]);
        section(
            out,
            "\nShifts of data sets: DATA+SHIFT[:1 to 5][+SHIFT..], 3 if not stated",
            shifts,
        )?;
        let formats = self.formats.iter().map(|entry| (entry.name, entry.title.to_owned()));
        section(out, "\nFormats that are read", formats)?;
        let methods = self.methods.iter().map(|entry| (entry.name, entry.title.to_owned()));
        section(out, "\nMethods", methods)?;
        let bases = self.bases.iter().map(|entry| (entry.name, entry.title.to_owned()));
        section(out, "\nBases of the method subspace", bases)?;
        let title = "\nPreprocessing: NAME[-padN], or mean=..,std=..[,pad=N]";
        let presets = self.preprocessing.iter();
        section(
            out,
            title,
            presets.map(|p| (p.name, format!("mean {:?}, std {:?}", p.mean, p.std))),
        )?;
        writeln!(out, "\nPresets of train, and the options that they stand for")?;
        let mut recipes = self.training.iter();
        recipes.try_for_each(|r| writeln!(out, "  {}  {}\n    {}", r.name, r.title, r.flags))?;
        let zoos = self.zoos.iter().map(|entry| (entry.name, entry.title.to_owned()));
        section(out, "\nPresets of zoo train", zoos)?;
        let autoencoders = self.autoencoders.iter();
        let autoencoders = autoencoders.map(|entry| (entry.name, entry.title.to_owned()));
        section(out, "\nPresets of sane pretrain", autoencoders)
    }
}

fn section<'a>(
    out: &mut dyn Write,
    title: &str,
    entries: impl Iterator<Item = (&'a str, String)>,
) -> io::Result<()> {
    let mut lines = entries.map(|(name, text)| [name.to_owned(), text]);
    // The title stands in place of a header.
    writeln!(out, "{title}")?;
    let Some([name, text]) = lines.next() else { return Ok(()) };
    let mut table = Table::new([(name.as_str(), Align::Left), (text.as_str(), Align::Left)]);
    lines.for_each(|line| table.push(line));
    table.write(out, "  ")
}
