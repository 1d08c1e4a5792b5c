//! Histograms as a picture, which any browser shows.

use std::fmt::Write;

use super::latency::{Bucket, Latencies, shown};

const WIDTH: usize = 720;
const LINE: usize = 22;
/// Where the bars begin, and how long the longest is.
const LEFT: usize = 110;
const LONGEST: usize = 500;

/// One histogram below the other, each with its title and its percentiles.
pub(crate) fn histograms(title: &str, charts: &[(&str, &Latencies)]) -> String {
    let mut body = String::new();
    let mut y = LINE;
    line(&mut body, 16, y, "font-weight=\"bold\"", title);
    for (name, latencies) in charts {
        y += 2 * LINE;
        let numbers = [50, 90, 99, 100].map(|percent| shown(latencies.percentile(percent)));
        let [p50, p90, p99, max] = numbers;
        let head = format!("{name}: p50 {p50}, p90 {p90}, p99 {p99}, max {max}");
        line(&mut body, 16, y, "", &head);
        let buckets = latencies.buckets();
        let highest = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1);
        for Bucket { most, count } in &buckets {
            y += LINE;
            let width = (count * LONGEST).div_ceil(highest.max(1));
            let label = format!("≤ {}", shown(*most));
            line(&mut body, LEFT - 10, y, "text-anchor=\"end\"", &label);
            let top = y - 13;
            let _ = writeln!(
                body,
                "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"16\" fill=\"#4477aa\"/>"
            );
            line(&mut body, LEFT + width + 8, y, "", &count.to_string());
        }
    }
    let height = y + LINE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn line(body: &mut String, x: usize, y: usize, style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    // Writing into a string does not fail.
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" {style}>{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bar_a_bucket_and_nothing_unescaped() {
        let latencies = Latencies::of([1, 1, 2].map(Duration::from_millis).to_vec());
        let svg = histograms("a < b", &[("hosts", &latencies)]);
        assert_eq!(svg.matches("fill=\"#4477aa\"").count(), 2);
        assert!(
            svg.contains("a &lt; b") && svg.contains("width=\"500\""),
            "{svg}"
        );
        assert!(svg.ends_with("</svg>\n"));
    }
}
