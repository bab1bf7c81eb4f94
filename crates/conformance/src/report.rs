//! What came out, by folder.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Passed,
    /// Otherwise: how.
    Failed(String),
    /// Not run: why.
    Skipped(String),
}

/// One test and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// The file.
    pub file: PathBuf,
    /// Its name in the file; empty where the file as a whole is meant.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// The results of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    results: Vec<TestResult>,
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
    }
}

impl Report {
    /// Of results in any order.
    pub fn new(mut results: Vec<TestResult>) -> Self {
        results.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        Self { results }
    }

    /// The results by file and name.
    pub fn results(&self) -> &[TestResult] {
        &self.results
    }

    /// Whether no test failed and there was one at all.
    pub fn is_success(&self) -> bool {
        let failed = |result: &TestResult| matches!(result.verdict, Verdict::Failed(_));
        !self.results.is_empty() && !self.results.iter().any(failed)
    }
}

impl fmt::Display for Report {
    /// Failures and skips one by one, a table by folder, and the sums in the last line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut folders = BTreeMap::<String, Counts>::new();
        let mut reasons = BTreeMap::<(String, &str), usize>::new();
        let mut all = Counts::default();
        for result in &self.results {
            let folder = result.file.parent().map(|folder| folder.display().to_string());
            let folder = folder.filter(|folder| !folder.is_empty()).unwrap_or_else(|| ".".into());
            match &result.verdict {
                Verdict::Passed => {}
                Verdict::Failed(reason) => {
                    writeln!(f, "FAILED {} {}: {reason}", result.file.display(), result.name)?;
                }
                Verdict::Skipped(reason) => {
                    *reasons.entry((folder.clone(), reason)).or_default() += 1;
                }
            }
            folders.entry(folder).or_default().add(&result.verdict);
            all.add(&result.verdict);
        }
        let width = folders.keys().map(String::len).max().unwrap_or_default().max(6);
        writeln!(f, "{:width$}  {:>7}  {:>7}  {:>7}", "folder", "passed", "failed", "skipped")?;
        for (folder, Counts { passed, failed, skipped }) in &folders {
            writeln!(f, "{folder:width$}  {passed:>7}  {failed:>7}  {skipped:>7}")?;
        }
        for ((folder, reason), count) in reasons {
            writeln!(f, "skipped {count} in {folder}: {reason}")?;
        }
        write!(f, "{} passed, {} failed, {} skipped", all.passed, all.failed, all.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_ends_with_the_sums_and_shows_what_failed() {
        let result =
            |file: &str, verdict| TestResult { file: file.into(), name: "t".into(), verdict };
        let report = Report::new(vec![
            result("b/x.json", Verdict::Failed("no".into())),
            result("a/y.json", Verdict::Passed),
            result("a/x.json", Verdict::Skipped("seals".into())),
        ]);
        assert!(!report.is_success());
        let text = report.to_string();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "FAILED b/x.json t: no",
                "folder   passed   failed  skipped",
                "a             1        0        1",
                "b             0        1        0",
                "skipped 1 in a: seals",
                "1 passed, 1 failed, 1 skipped",
            ]
        );
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert!(!Report::default().is_success());
    }
}
