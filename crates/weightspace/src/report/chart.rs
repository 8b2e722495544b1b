//! Charts as SVG; every call of the plotting library is here.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;
use super::axis::Axis;

/// Curves over two axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows, for those who do not see it.
    pub name: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The curves.
    pub series: Vec<Series>,
    /// Dashed lines across the chart, to compare with.
    pub levels: Vec<Level>,
}

/// Points joined by a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Values on both axes, in the order in which they are joined; those without a place on an axis
    /// (NaN; what is not positive, where the scale is logarithmic) are left out.
    pub points: Vec<(f64, f64)>,
}

/// A dashed horizontal line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// Name in the legend.
    pub name: String,
    /// Value on the vertical axis.
    pub y: f64,
}

/// A colour on light and on dark ground.
#[derive(Clone, Copy)]
pub(super) struct Colour {
    /// In the SVG.
    pub light: Rgb,
    /// What the page's style replaces it with.
    pub dark: Rgb,
}

/// Red, green and blue; written as in SVG.
#[derive(Clone, Copy)]
pub(super) struct Rgb(u32);

impl std::fmt::Display for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:06X}", self.0)
    }
}

impl Colour {
    const fn new(light: u32, dark: u32) -> Self {
        Colour { light: Rgb(light), dark: Rgb(dark) }
    }

    fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = self.light.0.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// Text, grid lines and levels, then series. The latter are those of Okabe and Ito, which people
/// who see colours differently can tell apart.
pub(super) const COLOURS: [Colour; 9] = [
    Colour::new(0x3F4650, 0xC3CAD4),
    Colour::new(0xDFE3E8, 0x30363E),
    Colour::new(0x7A828C, 0x8B949E),
    Colour::new(0x0072B2, 0x56A8E0),
    Colour::new(0xD55E00, 0xFF8F4D),
    Colour::new(0x009E73, 0x35C79C),
    Colour::new(0xCC79A7, 0xE3A0C6),
    Colour::new(0xE69F00, 0xF2B93B),
    Colour::new(0x6A51A3, 0xA997DD),
];
const TEXT: Colour = COLOURS[0];
const GRID: Colour = COLOURS[1];
const LEVEL: Colour = COLOURS[2];
const FIRST_SERIES: usize = 3;

/// Width and height of the picture, in pixels where it is not scaled.
const SIZE: (u32, u32) = (880, 460);

/// Height of the legend.
const LEGEND: i32 = 36;

/// Names the sizes of text. The backend writes them divided by 1.24.
const FONT: (&str, f64) = ("sans-serif", 17.0);

/// Where the axes begin.
const LEFT: i32 = 84;

/// Lengths of dashes and of the gaps between them.
const DASH: u32 = 6;
const GAP: u32 = 4;

/// Radius of a point.
const RADIUS: i32 = 4;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b, 'c> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Placed<'c>, Placed<'c>>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Chart {
    /// The picture as an SVG element, in colours for light ground.
    ///
    /// # Errors
    /// If the plotting library cannot draw it.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| ReportError::Chart {
            name: self.name.clone(),
            problem: error.to_string(),
        })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let picture = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let (legend, plot) = picture.split_vertically(LEGEND);
        self.draw_legend(&legend)?;

        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = self.x.range(points().map(|point| point.0));
        let levels = self.levels.iter().map(|level| level.y);
        let y = self.y.range(points().map(|point| point.1).chain(levels));
        let mut plot = ChartBuilder::on(&plot)
            .margin_left(6)
            .margin_right(24)
            .margin_bottom(4)
            .x_label_area_size(52)
            .y_label_area_size(LEFT - 6)
            .build_cartesian_2d(Placed::new(&self.x, x), Placed::new(&self.y, y))?;
        plot.configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb())
            .axis_style(GRID.rgb())
            .label_style(text(TEXT))
            .axis_desc_style(text(TEXT))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        self.levels.iter().try_for_each(|level| self.draw_level(&mut plot, level))?;
        let mut series = self.series.iter().enumerate();
        series.try_for_each(|(i, series)| self.draw_series(&mut plot, series, series_colour(i)))?;
        Ok(picture.present()?)
    }

    fn draw_level(&self, plot: &mut Plot<'_, '_, '_>, level: &Level) -> Drawn {
        let Some(y) = self.y.position(level.y) else { return Ok(()) };
        let ends = plot.as_coord_spec().get_x_range();
        let style = LEVEL.rgb().stroke_width(1);
        plot.draw_series(DashedLineSeries::new(
            [(ends.start, y), (ends.end, y)],
            DASH,
            GAP,
            style,
        ))?;
        Ok(())
    }

    fn draw_series(&self, plot: &mut Plot<'_, '_, '_>, series: &Series, colour: RGBColor) -> Drawn {
        let position = |&(x, y): &(f64, f64)| Some((self.x.position(x)?, self.y.position(y)?));
        let points: Vec<_> = series.points.iter().filter_map(position).collect();
        plot.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        plot.draw_series(points.iter().map(|&point| Circle::new(point, RADIUS, colour.filled())))?;
        Ok(())
    }

    /// Draws the names of series and levels side by side, each behind its mark.
    fn draw_legend(&self, area: &Area<'_>) -> Drawn {
        let y = LEGEND / 2 - 4;
        let mut x = LEFT;
        let name = |x: i32, name: &str| -> Result<i32, Box<dyn std::error::Error>> {
            let style = text(TEXT).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(name.to_owned(), (x + 30, y), style.clone()))?;
            Ok(x + 54 + area.estimate_text_size(name, &style)?.0 as i32)
        };
        for (i, series) in self.series.iter().enumerate() {
            let colour = series_colour(i);
            area.draw(&PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(2)))?;
            area.draw(&Circle::new((x + 11, y), RADIUS, colour.filled()))?;
            x = name(x, &series.name)?;
        }
        let placed = |level: &&Level| self.y.position(level.y).is_some();
        for level in self.levels.iter().filter(placed) {
            let style = LEVEL.rgb().stroke_width(1);
            area.draw(&DashedPathElement::new([(x, y), (x + 22, y)], DASH, GAP, style))?;
            x = name(x, &level.name)?;
        }
        Ok(())
    }
}

/// An axis over a range of positions, as the plotting library wants it.
struct Placed<'a> {
    axis: &'a Axis,
    range: Range<f64>,
}

impl<'a> Placed<'a> {
    fn new(axis: &'a Axis, range: Range<f64>) -> Self {
        Placed { axis, range }
    }
}

impl Ranged for Placed<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (position - self.range.start) / (self.range.end - self.range.start);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // There are no lines between the ticks.
        if hint.weight().allow_light_points() { vec![] } else { self.axis.ticks(&self.range) }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Placed<'_> {
    fn format_ext(&self, position: &f64) -> String {
        self.axis.tick_text(*position)
    }
}

fn text(colour: Colour) -> TextStyle<'static> {
    FONT.into_font().color(&colour.rgb())
}

fn series_colour(index: usize) -> RGBColor {
    let colours = &COLOURS[FIRST_SERIES..];
    colours[index % colours.len()].rgb()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Scale, Unit};

    fn curve() -> Chart {
        let axis = |label: &str, scale, unit| Axis { label: label.into(), scale, unit };
        Chart {
            name: "curve".into(),
            x: axis("bytes", Scale::Logarithmic, Unit::Bytes),
            y: axis("accuracy", Scale::Linear, Unit::Percent),
            series: vec![
                Series { name: "one".into(), points: vec![(1e3, 0.2), (1e4, 0.9), (1e5, 0.95)] },
                Series { name: "two".into(), points: vec![(2e3, 0.5)] },
            ],
            levels: vec![Level { name: "original".into(), y: 0.96 }],
        }
    }

    /// Centres of the circles in the colour of a series, without the one in the legend.
    fn centres(svg: &str, series: usize) -> Vec<(i32, i32)> {
        let colour = COLOURS[FIRST_SERIES + series].light.to_string();
        let number = |line: &str, name: &str| -> i32 {
            let start = line.find(name).unwrap() + name.len();
            line[start..].split('"').next().unwrap().parse().unwrap()
        };
        let circles = svg.lines().filter(|l| l.starts_with("<circle") && l.contains(&colour));
        circles.skip(1).map(|l| (number(l, "cx=\""), number(l, "cy=\""))).collect()
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let svg = curve().to_svg().unwrap();
        let [a, b, c] = centres(&svg, 0)[..] else { panic!("{svg}") };
        // Equal ratios are equal distances; SVG's vertical axis points downwards.
        assert!((b.0 - a.0 - (c.0 - b.0)).abs() <= 1, "{a:?} {b:?} {c:?}");
        let (rise, rest) = (f64::from(a.1 - b.1), f64::from(b.1 - c.1));
        assert!((rise / rest - 0.7 / 0.05).abs() < 1.0, "{a:?} {b:?} {c:?}");
        assert_eq!(centres(&svg, 1).len(), 1);
        for text in ["one", "two", "original", "bytes", "accuracy", "10 kB", "60 %"] {
            assert!(svg.lines().any(|line| line == text), "{text} in {svg}");
        }
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let mut chart = curve();
        let odd = [f64::NAN, f64::INFINITY, 0.0, -1.0];
        chart.series[0].points.extend(odd.map(|x| (x, 0.5)));
        chart.series[0].points.extend([(1e3, f64::NAN), (1e3, f64::NEG_INFINITY)]);
        chart.levels.push(Level { name: "nowhere".into(), y: f64::NAN });
        assert!(chart.to_svg().unwrap() == curve().to_svg().unwrap(), "something was drawn");
        assert!(Chart::default().to_svg().unwrap().contains("</svg>"));
    }
}
