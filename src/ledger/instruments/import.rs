//! Import files: JSON lines, or CSV with a header.
//!
//! JSON lines are [`Instrument`]s. CSV has the columns `gateway,token,target,target_token,target_account` and, when
//! wanted, `target_customer`; rows with the same gateway and token are one instrument. A line that is not taken is named by its
//! number and a reason that repeats nothing of it; the others are kept.

use std::collections::BTreeMap;

use super::{Instrument, InstrumentError, Target, put};
use crate::ledger::{Ledger, LedgerError};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Instruments kept.
    pub kept: usize,
    /// Lines not taken.
    pub rejected: Vec<Rejected>,
}

/// A line that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Why; repeats nothing of the line.
    pub reason: String,
}

impl Import {
    fn reject(&mut self, line: u64, reason: impl Into<String>) {
        self.rejected.push(Rejected {
            line,
            reason: reason.into(),
        });
    }

    /// Keeps one; a failing ledger ends the import, a bad line does not.
    async fn keep(
        &mut self,
        ledger: &dyn Ledger,
        tenant: &str,
        line: u64,
        instrument: &Instrument,
    ) -> Result<(), LedgerError> {
        match put(ledger, tenant, instrument).await {
            Ok(()) => self.kept += 1,
            Err(InstrumentError::Ledger(error)) => return Err(error),
            Err(error) => self.reject(line, error.to_string()),
        }
        Ok(())
    }
}

/// Imports JSON lines; empty lines are passed over.
pub async fn json_lines(ledger: &dyn Ledger, tenant: &str, text: &str) -> Result<Import, LedgerError> {
    let mut import = Import::default();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Instrument>(text) {
            Ok(instrument) => import.keep(ledger, tenant, line, &instrument).await?,
            // serde's own text could repeat a value.
            Err(error) => import.reject(line, format!("not an instrument (column {})", error.column())),
        }
    }
    Ok(import)
}

/// Imports CSV.
pub async fn csv(ledger: &dyn Ledger, tenant: &str, text: &str) -> Result<Import, LedgerError> {
    let mut import = Import::default();
    let mut reader = ::csv::ReaderBuilder::new()
        .trim(::csv::Trim::All)
        .from_reader(text.as_bytes());
    let columns = [
        "gateway",
        "token",
        "target",
        "target_token",
        "target_account",
        "target_customer",
    ];
    let places: Vec<Option<usize>> = match reader.headers() {
        Ok(header) => columns
            .iter()
            .map(|column| header.iter().position(|name| name == *column))
            .collect(),
        Err(_) => vec![None; columns.len()],
    };
    if places[..5].contains(&None) {
        import.reject(1, format!("the header must name {}", columns[..5].join(", ")));
        return Ok(import);
    }
    let mut instruments: BTreeMap<(String, String), (u64, Instrument)> = BTreeMap::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                import.reject(
                    error.position().map_or(0, ::csv::Position::line),
                    "not a row of this table",
                );
                continue;
            }
        };
        let cell = |at: usize| {
            places[at]
                .and_then(|place| record.get(place))
                .unwrap_or_default()
                .to_owned()
        };
        let line = record.position().map_or(0, ::csv::Position::line);
        let (_, instrument) = instruments.entry((cell(0), cell(1))).or_insert_with(|| {
            (
                line,
                Instrument {
                    gateway: cell(0),
                    token: cell(1),
                    targets: BTreeMap::new(),
                },
            )
        });
        let customer = Some(cell(5)).filter(|customer| !customer.is_empty());
        let target = Target {
            token: cell(3),
            account: cell(4),
            customer,
        };
        if instrument.targets.insert(cell(2), target).is_some() {
            import.reject(
                line,
                "this token already has a target at that gateway; the later one holds",
            );
        }
    }
    for (line, instrument) in instruments.values() {
        import.keep(ledger, tenant, *line, instrument).await?;
    }
    import.rejected.sort_by_key(|rejected| rejected.line);
    Ok(import)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::instruments::{get, tests::ledger};

    #[tokio::test]
    async fn good_lines_are_kept_and_bad_ones_named_without_repeating_them() {
        let directory = tempfile::tempdir().expect("directory");
        let ledger = ledger(directory.path());
        let text = concat!(
            r#"{"gateway":"stripe","token":"pm_1","targets":{"adyen":{"token":"8415","account":"Acme"}}}"#,
            "\n\n",
            r#"{"gateway":"stripe","token":"4242424242424242","targets":{"adyen":{"token":"8415","account":"Acme"}}}"#,
            "\n",
            r#"{"gateway":"stripe","token":"pm_2","number":"4242424242424242"}"#,
            "\nnonsense\n",
        );
        let import = json_lines(&ledger, "acme", text).await.expect("imports");
        assert_eq!(import.kept, 1);
        assert_eq!(
            import.rejected.iter().map(|rejected| rejected.line).collect::<Vec<_>>(),
            [3, 4, 5]
        );
        assert!(!format!("{import:?}").contains("4242"), "{import:?}");
        assert!(get(&ledger, "acme", "stripe", "pm_1").await.expect("reads").is_some());
    }

    #[tokio::test]
    async fn csv_rows_of_one_token_become_one_instrument() {
        let directory = tempfile::tempdir().expect("directory");
        let ledger = ledger(directory.path());
        let text = "token,gateway,target,target_token,target_account,target_customer\n\
                    pm_1,stripe,adyen,8415,Acme,shopper-1\n\
                    pm_1, stripe, paypal, vault1, merchant1,\n\
                    pm_2,stripe,stripe,pm_2,acct,\n\
                    pm_3,stripe\n";
        let import = csv(&ledger, "acme", text).await.expect("imports");
        assert_eq!((import.kept, import.rejected.len()), (1, 2), "{import:?}");
        let found = get(&ledger, "acme", "stripe", "pm_1")
            .await
            .expect("reads")
            .expect("there");
        assert_eq!(found.targets.len(), 2);
        assert_eq!(
            found.at("adyen", "Acme").and_then(|target| target.customer.as_deref()),
            Some("shopper-1")
        );
        let headless = csv(&ledger, "acme", "a,b\n1,2\n").await.expect("imports");
        assert_eq!((headless.kept, headless.rejected[0].line), (0, 1));
    }
}
