//! The HTML report: whole, self-contained, and safe from what contracts call themselves.

mod shared_bundles;

use heddle_replay::{Bundle, HtmlReport, ReplayOptions, Replayer};
use shared_bundles::bundles;
use std::env;

/// A report on a few shared bundles of different ages; `None`, said aloud, where they are absent.
fn report() -> Option<String> {
    let bundles = bundles();
    if bundles.is_empty() {
        return None;
    }
    let options = ReplayOptions { analyse: true, simulate: true, ..ReplayOptions::default() };
    let replayer = Replayer::new(options).expect("threads can be started");
    let mut report = HtmlReport::new(&options);
    for path in bundles.iter().skip(1).step_by(4) {
        let bundle = Bundle::read(path).expect("a bundle");
        report.add(&bundle, &replayer.replay(&bundle).expect("mainnet is known"));
    }
    Some(report.html())
}

#[test]
fn a_report_is_one_page_that_asks_the_network_for_nothing() {
    let Some(html) = report() else { return };
    for place in ["{{STYLE}}", "{{SCRIPT}}", "{{DATA}}", "src=", "@import", "url(", "fetch("] {
        assert!(!html.contains(place), "{place}");
    }
    // The namespace of SVG is a name, not an address that anybody asks.
    let links = html.matches("http").count();
    assert_eq!(links, html.matches("http://www.w3.org/2000/svg").count());
    if let Some(path) = env::var_os("HEDDLE_REPORT_OUT") {
        std::fs::write(path, html).expect("the report can be kept for looking at");
    }
}

#[test]
fn the_data_of_a_report_is_json_that_no_name_can_break_out_of() {
    let Some(html) = report() else { return };
    let start = html.find("id=\"data\">").expect("there is data") + "id=\"data\">".len();
    let data = &html[start..];
    let data = &data[..data.find("</script>").expect("it ends")];
    assert!(!data.contains('<'));
    let data: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
    let blocks = data["report"]["blocks"].as_array().expect("there are blocks");
    assert_eq!(data["summary"]["blocks"], blocks.len());
    for block in blocks {
        let details = &block["details"];
        let count = block["line"]["txs"].as_u64();
        assert_eq!(details["hashes"].as_array().map(|hashes| hashes.len() as u64), count);
        assert!(
            details["spans"]
                .as_array()
                .is_some_and(|spans| spans.len() as u64 >= count.unwrap_or(0))
        );
        assert_eq!(details["simulated"].as_array().map(Vec::len), Some(7));
    }
}
