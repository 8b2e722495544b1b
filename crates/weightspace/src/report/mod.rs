//! Results as one HTML page that needs nothing beside it: text, tables, and charts as inline SVG.
//!
//! ```
//! use weightspace::report::{Column, Part, Report, Section, Table};
//!
//! let table = Table {
//!     columns: vec![Column::text("file"), Column::number("bytes")],
//!     rows: vec![vec!["a.wsp".into(), "1,234".into()]],
//! };
//! let section = Section { title: "Files".into(), text: String::new(), parts: vec![Part::Table(table)] };
//! let report = Report { title: "Results".into(), sections: vec![section], ..Report::default() };
//! assert!(report.to_html()?.contains("1,234"));
//! # Ok::<(), weightspace::report::ReportError>(())
//! ```

mod axis;
mod chart;
mod picture;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value, context};

pub use axis::{Axis, Scale, Unit};
pub use chart::{Chart, Level, Series};

/// Name of the template; its ending makes minijinja escape everything that is not markup of ours.
const PAGE: &str = "page.html";

/// A page. All text is plain: it is escaped where it needs to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading, and the name of the window.
    pub title: String,
    /// What the page shows, in a sentence or two.
    pub lead: String,
    /// How the results came about: names and values, for instance of seed and version.
    pub facts: Vec<(String, String)>,
    /// The results.
    pub sections: Vec<Section>,
}

/// A part of a page with a heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// A paragraph below the heading; may be empty.
    pub text: String,
    /// What is shown, from top to bottom.
    pub parts: Vec<Part>,
}

/// Something shown in a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A chart.
    Chart(Chart),
    /// A table.
    Table(Table),
}

/// A table: every row has as many cells as there are columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Columns from left to right.
    pub columns: Vec<Column>,
    /// Cells row by row.
    pub rows: Vec<Vec<String>>,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub title: String,
    /// Whether its cells are numbers, which stand on the right.
    pub number: bool,
}

impl Column {
    /// A column of words.
    pub fn text(title: impl Into<String>) -> Self {
        Column { title: title.into(), number: false }
    }

    /// A column of numbers.
    pub fn number(title: impl Into<String>) -> Self {
        Column { title: title.into(), number: true }
    }
}

/// Why a page cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A chart cannot be drawn.
    #[error("cannot draw the chart {name:?}: {problem}")]
    Chart {
        /// Name of the chart.
        name: String,
        /// What the plotting library says.
        problem: String,
    },
    /// The template cannot be filled in.
    #[error("cannot make the page: {0}")]
    Page(#[from] minijinja::Error),
}

impl Report {
    /// The page as one HTML document. It follows the reader's choice of light or dark colours and
    /// loads nothing.
    ///
    /// # Errors
    /// If a chart is beyond what the plotting library can draw.
    pub fn to_html(&self) -> Result<String, ReportError> {
        let sections = self.sections.iter().map(Section::to_value);
        let sections = sections.collect::<Result<Vec<_>, _>>()?;
        let mut environment = Environment::new();
        // Lines that hold nothing but a statement leave none behind.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.add_template(PAGE, include_str!("page.html"))?;
        let page = context! {
            title => &self.title,
            lead => &self.lead,
            facts => &self.facts,
            sections,
            colours => chart::COLOURS.map(|c| context! { light => c.light.to_string(), dark => c.dark.to_string() }),
        };
        Ok(environment.get_template(PAGE)?.render(page)?)
    }
}

impl Section {
    fn to_value(&self) -> Result<Value, ReportError> {
        let parts = self.parts.iter().map(|part| match part {
            Part::Chart(chart) => {
                let svg = Value::from_safe_string(chart.to_svg()?);
                Ok(context! { svg, name => &chart.name })
            }
            Part::Table(Table { columns, rows }) => {
                let column = |c: &Column| context! { title => &c.title, number => c.number };
                let columns: Vec<_> = columns.iter().map(column).collect();
                Ok(context! { columns, rows })
            }
        });
        let parts = parts.collect::<Result<Vec<_>, ReportError>>()?;
        Ok(context! { title => &self.title, text => &self.text, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Report {
        let hostile = "<script>alert('&')</script>".to_string();
        let axis = Axis { label: hostile.clone(), scale: Scale::Linear, unit: Unit::Number };
        let chart = Chart {
            name: hostile.clone(),
            x: axis.clone(),
            y: axis,
            series: vec![Series { name: hostile.clone(), points: vec![(1.0, 2.0), (2.0, 3.0)] }],
            levels: vec![Level { name: hostile.clone(), y: 2.5 }],
            ..Chart::default()
        };
        let table = Table {
            columns: vec![Column::text(hostile.clone()), Column::number("n")],
            rows: vec![vec![hostile.clone(), "12".into()]],
        };
        Report {
            title: hostile.clone(),
            lead: hostile.clone(),
            facts: vec![(hostile.clone(), hostile.clone())],
            sections: vec![Section {
                title: hostile.clone(),
                text: hostile,
                parts: vec![Part::Chart(chart), Part::Table(table)],
            }],
        }
    }

    #[test]
    fn text_never_becomes_markup() {
        let html = page().to_html().unwrap();
        assert!(!html.contains("<script"), "{html}");
        // Title, heading, lead, fact and its value, section and its text; name, both axes, series
        // and level of the chart; column and cell of the table.
        assert_eq!(html.matches("&lt;script&gt;").count(), 14, "{html}");
    }

    #[test]
    fn the_page_holds_what_it_is_given_and_loads_nothing() {
        let html = page().to_html().unwrap();
        for part in
            ["<!doctype html>", "<svg", r#"<td class="number">12</td>"#, "prefers-color-scheme"]
        {
            assert!(html.contains(part), "{part} in {html}");
        }
        let without_namespace = html.replace("http://www.w3.org/2000/svg", "");
        for address in ["http:", "https:", "url(", "@import", "src=", "href="] {
            assert!(!without_namespace.contains(address), "{address} in {html}");
        }
    }

    #[test]
    fn an_empty_page_is_a_page() {
        let html = Report::default().to_html().unwrap();
        assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    }
}
