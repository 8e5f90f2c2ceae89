//! Builds and parses file names. A name template with its placeholders filled in is a *stem*
//! ([`super::name_template`]). A file name is `<stem>-<UTC time of opening>-<counter>` (its *base*) and an
//! ending that gives its state:
//!
//! | ending | state |
//! |---|---|
//! | `.jsonl.open` | being written, or waiting to be finished; not for readers |
//! | `.jsonl.zst.tmp`, `.jsonl.gz.tmp` | being compressed; worthless while the `.open` file exists |
//! | `.jsonl.zst.ready`, `.jsonl.gz.ready` | complete and compressed; the `.open` file will be removed |
//! | `.jsonl`, `.jsonl.zst`, `.jsonl.gz` | finished, for readers |
//!
//! The files of one stem sort by time.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::config::FileCompression;
use super::name_template::Stems;

/// The time when a file was opened, and its number within the same millisecond. Files sort by name in this
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileNumber {
    /// Whole milliseconds, because a name shows no more.
    pub(crate) at: Timestamp,
    pub(crate) counter: u32,
}

impl FileNumber {
    pub(crate) const FIRST: Self = Self { at: Timestamp::UNIX_EPOCH, counter: 0 };
    /// A number with more digits would sort before one with fewer digits.
    const MAX_COUNTER: u32 = 999_999;

    /// Returns the number for a file opened at `now`. It sorts after this one even if the clock was set back.
    pub(crate) fn next(self, now: Timestamp) -> Self {
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        match self.counter < Self::MAX_COUNTER {
            _ if now > self.at => Self { at: now, counter: 0 },
            true => Self { counter: self.counter + 1, ..self },
            false => Self { at: self.at.checked_add(1.millisecond()).unwrap_or(self.at), counter: 0 },
        }
    }

    /// Parses the output of `to_string`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, counter) = text.split_once('-')?;
        let seconds = DateTime::strptime("%Y%m%dT%H%M%S", time.get(..15)?).ok()?;
        let millis: i64 = time.get(15..18)?.parse().ok()?;
        let at = TimeZone::UTC.to_timestamp(seconds).ok()?.checked_add(millis.milliseconds()).ok()?;
        let number = Self { at, counter: counter.parse().ok()? };
        // Another spelling of the same number, such as one with a sign, is not ours.
        (number.to_string() == text).then_some(number)
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at.as_millisecond().rem_euclid(1000);
        write!(f, "{}{millis:03}Z-{:06}", self.at.strftime("%Y%m%dT%H%M%S"), self.counter)
    }
}

/// The part of a file name that stays the same in all states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Base(String);

impl Base {
    pub(crate) fn new(stem: &str, opening: FileNumber) -> Self {
        Self(format!("{stem}-{opening}"))
    }

    pub(crate) fn open(&self) -> String {
        format!("{}.jsonl.open", self.0)
    }

    /// Every name under which the lines of the file may exist.
    pub(crate) fn names(&self) -> [String; 6] {
        use FileCompression::{Gzip, None, Zstd};
        let finished = [None, Zstd, Gzip].map(|compression| self.finished(compression));
        let [plain, zstd, gzip] = finished;
        [self.open(), plain, zstd, gzip, self.ready(Zstd), self.ready(Gzip)]
    }

    pub(crate) fn finished(&self, compression: FileCompression) -> String {
        match compression {
            FileCompression::None => format!("{}.jsonl", self.0),
            FileCompression::Zstd => format!("{}.jsonl.zst", self.0),
            FileCompression::Gzip => format!("{}.jsonl.gz", self.0),
        }
    }

    pub(crate) fn temporary(&self, compression: FileCompression) -> String {
        self.finished(compression) + ".tmp"
    }

    /// The name once the compressed file is complete.
    pub(crate) fn ready(&self, compression: FileCompression) -> String {
        self.finished(compression) + ".ready"
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) base: Base,
    pub(crate) stem: String,
    pub(crate) opening: FileNumber,
    pub(crate) state: FileState,
}

/// The state of a file (see the table in the module text).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    Open,
    Temporary,
    Ready(FileCompression),
    Finished,
}

const ENDINGS: [(&str, FileState); 8] = [
    (".jsonl.open", FileState::Open),
    (".jsonl", FileState::Finished),
    (".jsonl.zst", FileState::Finished),
    (".jsonl.gz", FileState::Finished),
    (".jsonl.zst.tmp", FileState::Temporary),
    (".jsonl.gz.tmp", FileState::Temporary),
    (".jsonl.zst.ready", FileState::Ready(FileCompression::Zstd)),
    (".jsonl.gz.ready", FileState::Ready(FileCompression::Gzip)),
];

/// Parses a file name. Returns `None` if `stems` can't produce it.
pub(crate) fn parse(file_name: &str, stems: &Stems) -> Option<Parsed> {
    parse_any(file_name).filter(|parsed| stems.owns(&parsed.stem))
}

/// Parses the file name of any journal.
pub(crate) fn parse_any(file_name: &str) -> Option<Parsed> {
    let with_ending = |(ending, state): &(&str, FileState)| Some((file_name.strip_suffix(ending)?, *state));
    let (base, state) = ENDINGS.iter().find_map(with_ending)?;
    let (front, _) = base.rsplit_once('-')?;
    let (stem, _) = front.rsplit_once('-')?;
    let opening = FileNumber::parse(base.strip_prefix(stem)?.strip_prefix('-')?)?;
    Some(Parsed { base: Base(base.to_owned()), stem: stem.to_owned(), opening, state })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::name_template::NameTemplate;

    fn stems(template: &str) -> Stems {
        NameTemplate::parse(template).unwrap().bind("acme-b1")
    }

    const NOON: i64 = 1_795_262_400_000;

    #[test]
    fn an_opening_comes_behind_the_last_one_whatever_the_clock_says() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let mut last = FileNumber { at: at(NOON), counter: FileNumber::MAX_COUNTER - 1 };
        for (now, expected) in [
            (NOON, (NOON, FileNumber::MAX_COUNTER)),
            (NOON - 3_600_000, (NOON + 1, 0)),
            (NOON + 1, (NOON + 1, 1)),
            (NOON + 2, (NOON + 2, 0)),
            (-1, (NOON + 2, 1)),
        ] {
            let next = last.next(at(now));
            assert_eq!((next.at, next.counter), (at(expected.0), expected.1));
            assert!(next > last && next.to_string() > last.to_string());
            assert_eq!(FileNumber::parse(&next.to_string()), Some(next));
            last = next;
        }
        assert!(FileNumber::FIRST.next(Timestamp::MIN).to_string().starts_with("19700101T000000000Z-000001"));
        assert_eq!(FileNumber::parse("").or(FileNumber::parse("20261121T120000000Z-1")), None);
    }

    #[test]
    fn names_of_others_are_not_ours() {
        let ours = stems("{connection_id}");
        let base =
            Base::new("acme-b1", FileNumber { at: Timestamp::from_millisecond(NOON).unwrap(), counter: 0 });
        assert_eq!(base.open(), "acme-b1-20261121T120000000Z-000000.jsonl.open");
        assert!(parse(&base.open(), &ours).is_some());
        for other in [
            "acme-b2-20261121T120000000Z-000000.jsonl.open",
            "acme-b1-x-20261121T120000000Z-000000.jsonl.open",
            "acme-b1-20261121T120000000Z-000000.json",
            "acme-b1-20261121T120000000Z-0.jsonl",
            "acme-b1-20269921T120000000Z-000000.jsonl",
            "acme-b1.jsonl",
            ".acme-b1.lock",
        ] {
            assert_eq!(parse(other, &ours), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_tells_what_it_was_made_of(
            template in prop::sample::select(vec!["{connection_id}", "{partition}1{date}{hour}", "p{partition}-{hour}", "a-b"]),
            opened in 0i64..200_000_000_000_000, partition: u32, counter in 0u32..2_000_000,
            // A producer may set any time, also before the year 0 and after 9999.
            millis in prop_oneof![0i64..4_000_000_000_000, -70_000_000_000_000i64..270_000_000_000_000, any::<i64>()],
        ) {
            let stems = stems(template);
            let opening = FileNumber { at: Timestamp::from_millisecond(opened).unwrap(), counter };
            let stem = stems.stem(stems.slot(|| millis, || partition));
            let base = Base::new(&stem, opening);
            for (name, state) in [
                (base.open(), FileState::Open),
                (base.finished(FileCompression::None), FileState::Finished),
                (base.finished(FileCompression::Zstd), FileState::Finished),
                (base.temporary(FileCompression::Gzip), FileState::Temporary),
                (base.ready(FileCompression::Gzip), FileState::Ready(FileCompression::Gzip)),
            ] {
                let parsed = parse(&name, &stems);
                let expected = Parsed { base: base.clone(), stem: stem.clone(), opening, state };
                prop_assert_eq!(parsed, Some(expected));
            }
        }

        #[test]
        fn names_of_one_stem_sort_by_time(a in 0i64..4_000_000_000_000, b in 0i64..4_000_000_000_000, n in 0u32..999_999, m in 0u32..999_999) {
            let name = |millis, counter| {
                Base::new("x", FileNumber { at: Timestamp::from_millisecond(millis).unwrap(), counter })
            };
            prop_assert_eq!(name(a, n).cmp(&name(b, m)), (a, n).cmp(&(b, m)));
        }
    }
}
