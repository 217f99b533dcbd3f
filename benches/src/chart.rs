//! Bar charts of ratios, as SVG.

use plotters::backend::SVGBackend;
use plotters::prelude::{
    Color, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::path::Path;

/// A row of the chart.
pub struct Bar {
    /// What it is called.
    pub label: String,
    /// gort's part of what Go takes.
    pub to_go: Option<f64>,
    /// gort's part of what the best peer takes.
    pub to_best: Option<f64>,
}

const WIDTH: i32 = 900;
/// Where the bars begin, and how far they may go.
const LEFT: i32 = 330;
const RIGHT: i32 = WIDTH - 60;
const TOP: i32 = 70;
const ROW: i32 = 26;
const THICK: i32 = 9;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(60, 60, 60);
const PALE: RGBColor = RGBColor(225, 225, 225);
const GO: RGBColor = RGBColor(0, 125, 156);
const PEER: RGBColor = RGBColor(206, 122, 35);
/// What the axis shows at least.
const LEAST: (f64, f64) = (0.1, 2.0);
/// Where there may be lines.
const MARKS: [f64; 13] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// Draws the chart into that file. The axis is logarithmic: half as long is as far from 1 as twice as long.
pub fn draw(path: &Path, title: &str, bars: &[Bar]) -> Result<(), String> {
    try_to_draw(path, title, bars).map_err(|e| format!("cannot draw {}: {e}", path.display()))
}

fn try_to_draw(path: &Path, title: &str, bars: &[Bar]) -> Result<(), Box<dyn Error>> {
    let bottom = TOP + ROW * bars.len() as i32;
    let area = SVGBackend::new(path, (WIDTH as u32, (bottom + 30) as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let style = |size: i32, color: RGBColor, h: HPos| -> TextStyle<'static> {
        (FONT, size).into_font().color(&color).pos(Pos::new(h, VPos::Center))
    };
    let text = |s: String, at: (i32, i32), style: TextStyle<'static>| area.draw(&Text::new(s, at, style));
    text(title.to_owned(), (20, 20), style(18, INK, HPos::Left))?;
    let mut legend = 20;
    let has = |ratio: fn(&Bar) -> Option<f64>| bars.iter().any(|bar| ratio(bar).is_some());
    let series =
        [(GO, "gort / Go", has(|bar| bar.to_go)), (PEER, "gort / best peer", has(|bar| bar.to_best))];
    for (color, what, _) in series.into_iter().filter(|(.., is_there)| *is_there) {
        area.draw(&Rectangle::new([(legend, 40), (legend + 12, 52)], color.filled()))?;
        text(what.to_owned(), (legend + 18, 46), style(13, INK, HPos::Left))?;
        legend += 150;
    }
    text("less than 1: gort is faster".to_owned(), (legend, 46), style(13, INK, HPos::Left))?;

    let axis = Axis::over(bars);
    for mark in axis.marks() {
        let x = axis.at(mark);
        let color = if mark == 1.0 { INK } else { PALE };
        area.draw(&PathElement::new([(x, TOP - 4), (x, bottom)], color))?;
        text(format!("{mark}"), (x, bottom + 12), style(12, INK, HPos::Center))?;
    }
    for (i, bar) in bars.iter().enumerate() {
        let middle = TOP + ROW * i as i32 + ROW / 2;
        text(bar.label.clone(), (LEFT - 8, middle), style(13, INK, HPos::Right))?;
        let both = bar.to_go.is_some() && bar.to_best.is_some();
        let first = middle - if both { THICK } else { THICK / 2 };
        let ratios = [(bar.to_go, GO), (bar.to_best, PEER)];
        for (n, (ratio, color)) in ratios.iter().filter_map(|(r, color)| Some(((*r)?, color))).enumerate() {
            let y = first + THICK * n as i32;
            let (end, one) = (axis.at(ratio), axis.at(1.0));
            area.draw(&Rectangle::new([(end.min(one), y), (end.max(one), y + THICK)], color.filled()))?;
            // Beside the end that is away from 1.
            let (x, h) = if ratio < 1.0 { (end - 3, HPos::Right) } else { (end + 3, HPos::Left) };
            text(format!("{ratio:.2}"), (x, y + THICK / 2), style(9, INK, h))?;
        }
    }
    area.present()?;
    Ok(())
}

/// From ratios to places.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn over(bars: &[Bar]) -> Axis {
        let all = || bars.iter().flat_map(|bar| [bar.to_go, bar.to_best]).flatten().filter(|r| *r > 0.0);
        let from = all().fold(LEAST.0, f64::min) / 1.4;
        let to = all().fold(LEAST.1, f64::max) * 1.2;
        Axis { from, to }
    }

    fn at(&self, ratio: f64) -> i32 {
        let part = (ratio.max(self.from) / self.from).ln() / (self.to / self.from).ln();
        LEFT + (f64::from(RIGHT - LEFT) * part).round() as i32
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        MARKS.into_iter().filter(|mark| (self.from..=self.to).contains(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, fs, process};

    #[test]
    fn a_chart_has_a_bar_for_each_ratio() {
        let path = env::temp_dir().join(format!("gort-chart-{}.svg", process::id()));
        let bars = [
            Bar { label: "both".to_owned(), to_go: Some(0.25), to_best: Some(3.5) },
            Bar { label: "one".to_owned(), to_go: None, to_best: Some(0.02) },
        ];
        draw(&path, "A title", &bars).unwrap();
        let svg = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for text in ["A title", "both", "0.25", "3.50", "one", "0.02"] {
            assert!(svg.contains(text), "{text}");
        }
        // The ground, two of the legend, and the bars.
        assert_eq!(svg.matches("<rect").count(), 3 + 3);
    }

    #[test]
    fn what_is_twice_is_as_far_as_what_is_half() {
        let axis = Axis { from: 0.1, to: 10.0 };
        let (half, one, twice) = (axis.at(0.5), axis.at(1.0), axis.at(2.0));
        assert!((one - half).abs_diff(twice - one) <= 1);
        assert_eq!((axis.at(0.0), axis.at(10.0)), (LEFT, RIGHT));
    }
}
