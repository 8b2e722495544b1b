//! Charts; every call of the plotting library that draws is here.

use std::ops::Range;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

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
    /// Values on the vertical axis below this one are left out, and lines end on the way to them.
    pub floor: Option<f64>,
    /// Points are not joined, and the colours of series go from dark to light.
    pub scattered: bool,
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
/// From dark to light, as perceived.
const RAMP: [RGBColor; 6] = [
    RGBColor(0x44, 0x01, 0x54),
    RGBColor(0x41, 0x44, 0x87),
    RGBColor(0x2A, 0x78, 0x8E),
    RGBColor(0x22, 0xA8, 0x84),
    RGBColor(0x7A, 0xD1, 0x51),
    RGBColor(0xFD, 0xE7, 0x25),
];

const TEXT: Colour = COLOURS[0];
const GRID: Colour = COLOURS[1];
const LEVEL: Colour = COLOURS[2];
const FIRST_SERIES: usize = 3;

/// Width and height of the picture, in pixels where it is not scaled.
pub(super) const SIZE: (u32, u32) = (880, 460);

/// Height of a line of the legend, and of what is free below the last one.
const LEGEND: i32 = 24;
const LEGEND_GAP: i32 = 12;

/// Family and size of text. SVG has it divided by 1.24.
pub(super) const FONT_FAMILY: &str = "sans-serif";
const FONT_SIZE: f64 = 17.0;

/// Where the axes begin.
const LEFT: i32 = 84;

/// Lengths of dashes and of the gaps between them.
const DASH: u32 = 6;
const GAP: u32 = 4;

/// Radius of a point.
const RADIUS: i32 = 4;

pub(super) type Area<B> = DrawingArea<B, Shift>;
type Plot<'a, 'b, B> = ChartContext<'a, B, Cartesian2d<Placed<'b>, Placed<'b>>>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Chart {
    /// Draws the chart; `scale` is the number of pixels for each of the picture's size.
    pub(super) fn draw<B: DrawingBackend>(&self, picture: &Area<B>, scale: i32) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let brush = Brush { scale, scattered: self.scattered };
        let legend = self.placed_legend(picture, brush)?;
        let lines = legend.last().map_or(1, |entry| entry.line + 1);
        let (area, plot) = picture.split_vertically((lines as i32 * LEGEND + LEGEND_GAP) * scale);
        legend.iter().try_for_each(|entry| entry.draw(&area, brush))?;

        let shown = |y: &f64| self.floor.is_none_or(|floor| *y >= floor);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = self.x.range(points().filter(|point| shown(&point.1)).map(|point| point.0));
        let levels = self.levels.iter().map(|level| level.y);
        let y = self.y.range(points().map(|point| point.1).chain(levels).filter(shown));
        let mut plot = ChartBuilder::on(&plot)
            .margin_left(6 * scale)
            .margin_right(24 * scale)
            .margin_bottom(4 * scale)
            .x_label_area_size(52 * scale)
            .y_label_area_size((LEFT - 6) * scale)
            .build_cartesian_2d(Placed::new(&self.x, x), Placed::new(&self.y, y.clone()))?;
        plot.configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(brush.line(GRID.rgb(), 1))
            .axis_style(brush.line(GRID.rgb(), 1))
            .set_all_tick_mark_size(5 * scale)
            .label_style(brush.text())
            .axis_desc_style(brush.text())
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        for level in self.levels.iter().filter(|level| shown(&level.y)) {
            self.draw_level(&mut plot, level, brush)?;
        }
        for (index, series) in self.series.iter().enumerate() {
            let points: Vec<_> = series.points.iter().filter_map(|p| self.position(p)).collect();
            let style = brush.line(brush.series(index), 2);
            for line in above(&points, y.start).into_iter().filter(|_| !self.scattered) {
                plot.draw_series(LineSeries::new(line, style))?;
            }
            let marks = points.iter().filter(|point| point.1 >= y.start);
            let (style, radius) = (brush.mark(index), brush.radius());
            plot.draw_series(marks.map(|&point| Circle::new(point, radius, style)))?;
        }
        Ok(picture.present()?)
    }

    fn position(&self, &(x, y): &(f64, f64)) -> Option<(f64, f64)> {
        Some((self.x.position(x)?, self.y.position(y)?))
    }

    fn draw_level<B: DrawingBackend>(
        &self,
        plot: &mut Plot<'_, '_, B>,
        level: &Level,
        brush: Brush,
    ) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let Some(y) = self.y.position(level.y) else { return Ok(()) };
        let ends = plot.as_coord_spec().get_x_range();
        let ends = [(ends.start, y), (ends.end, y)];
        let (dash, gap) = brush.dashes();
        let style = brush.line(LEVEL.rgb(), 1);
        plot.draw_series(DashedLineSeries::new(ends, dash, gap, style))?;
        Ok(())
    }

    /// Names of series and levels side by side, each behind its mark, in as many lines as it takes.
    fn placed_legend<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        brush: Brush,
    ) -> Result<Vec<LegendEntry<'_>>, Box<dyn std::error::Error>>
    where
        B::ErrorType: 'static,
    {
        let series = self.series.iter().enumerate();
        let series = series.map(|(index, series)| (series.name.as_str(), Some(index)));
        let placed = |level: &&Level| self.y.position(level.y).is_some();
        let levels = self.levels.iter().filter(placed).map(|level| (level.name.as_str(), None));
        let (mut x, mut line) = (LEFT * brush.scale, 0);
        let mut entries = Vec::new();
        for (name, series) in series.chain(levels) {
            let width = area.estimate_text_size(name, &brush.text())?.0 as i32 + 54 * brush.scale;
            if x + width > SIZE.0 as i32 * brush.scale && x > LEFT * brush.scale {
                (x, line) = (LEFT * brush.scale, line + 1);
            }
            entries.push(LegendEntry { name, series, x, line });
            x += width;
        }
        Ok(entries)
    }
}

/// A name in the legend.
struct LegendEntry<'a> {
    name: &'a str,
    /// Which series it is; none for a level.
    series: Option<usize>,
    x: i32,
    line: usize,
}

impl LegendEntry<'_> {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>, brush: Brush) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let scale = brush.scale;
        let y = (self.line as i32 * LEGEND + LEGEND / 2 + 2) * scale;
        let ends = [(self.x, y), (self.x + 22 * scale, y)];
        match self.series {
            Some(index) => {
                if !brush.scattered {
                    area.draw(&PathElement::new(ends, brush.line(brush.series(index), 2)))?;
                }
                let centre = (self.x + 11 * scale, y);
                area.draw(&Circle::new(centre, RADIUS * scale, brush.mark(index)))?;
            }
            None => {
                let (dash, gap) = brush.dashes();
                let style = brush.line(LEVEL.rgb(), 1);
                area.draw(&DashedPathElement::new(ends, dash, gap, style))?;
            }
        }
        let style = brush.text().pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(self.name.to_owned(), (self.x + 30 * scale, y), style))?;
        Ok(())
    }
}

/// Widths and sizes in pixels.
#[derive(Clone, Copy)]
struct Brush {
    scale: i32,
    scattered: bool,
}

impl Brush {
    fn line(self, colour: RGBColor, width: i32) -> ShapeStyle {
        colour.stroke_width((width * self.scale) as u32)
    }

    /// Discs; rings for the series after those that have a colour of their own.
    fn mark(self, series: usize) -> ShapeStyle {
        match self.scattered || series < COLOURS.len() - FIRST_SERIES {
            true => self.series(series).filled(),
            false => self.line(self.series(series), 1),
        }
    }

    fn series(self, index: usize) -> RGBColor {
        match self.scattered {
            true => RAMP[index % RAMP.len()],
            false => series_colour(index),
        }
    }

    fn radius(self) -> i32 {
        if self.scattered { (RADIUS - 1) * self.scale } else { RADIUS * self.scale }
    }

    fn text(self) -> TextStyle<'static> {
        (FONT_FAMILY, FONT_SIZE * f64::from(self.scale)).into_font().color(&TEXT.rgb())
    }

    fn dashes(self) -> (u32, u32) {
        (DASH * self.scale as u32, GAP * self.scale as u32)
    }
}

/// The parts of a line through `points` that lie above a floor.
fn above(points: &[(f64, f64)], floor: f64) -> Vec<Vec<(f64, f64)>> {
    let mut lines = vec![Vec::new()];
    for (i, &point) in points.iter().enumerate() {
        let is_above = point.1 >= floor;
        if let Some(&before) = i.checked_sub(1).and_then(|i| points.get(i))
            && (before.1 >= floor) != is_above
        {
            let share = (floor - before.1) / (point.1 - before.1);
            let crossing = (before.0 + share * (point.0 - before.0), floor);
            let line = lines.last_mut().expect("there is always a line");
            line.push(crossing);
            if !is_above {
                lines.push(Vec::new());
            }
        }
        if is_above {
            lines.last_mut().expect("there is always a line").push(point);
        }
    }
    lines
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
            ..Chart::default()
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

    #[test]
    fn below_the_floor_nothing_is_drawn() {
        let whole = curve().to_svg().unwrap();
        let cut = Chart { floor: Some(0.8), ..curve() }.to_svg().unwrap();
        assert_eq!((centres(&whole, 0).len(), centres(&cut, 0).len()), (3, 2));
        assert_eq!(centres(&cut, 1).len(), 0);
        assert!(!cut.lines().any(|line| line == "60 %") && cut.lines().any(|line| line == "95 %"));
        // The line begins half way in the value, not at the point that is left out.
        let lines = above(&[(0.0, 0.0), (2.0, 1.0), (3.0, 0.5), (4.0, 0.0), (5.0, 1.0)], 0.5);
        assert_eq!(lines[0], [(1.0, 0.5), (2.0, 1.0), (3.0, 0.5), (3.0, 0.5)]);
        assert_eq!(lines[1], [(4.5, 0.5), (5.0, 1.0)]);
    }

    #[test]
    fn a_long_legend_takes_several_lines() {
        let mut chart = curve();
        let name = "a rather long name of a curve";
        chart.series.extend((0..6).map(|_| Series { name: name.into(), points: vec![] }));
        let svg = chart.to_svg().unwrap();
        let lines: std::collections::BTreeSet<&str> = svg
            .split("<text ")
            .filter(|text| text.contains(name))
            .map(|text| text.split("y=\"").nth(1).unwrap().split('"').next().unwrap())
            .collect();
        assert!((2..5).contains(&lines.len()), "{lines:?}");
    }
}
