//! Builds and parses file names. A name template with its placeholders filled in is a *stem*. A file name is
//! `<stem>-<UTC time of opening>-<counter>` (its *base*) and an ending that gives its state:
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
use std::ops::RangeInclusive;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::config::FileCompression;

const MILLIS_PER_HOUR: i64 = 3_600_000;
/// The hours since 1970 that lie in the years 0 to 9999, which have four digits.
const HOURS: RangeInclusive<i64> = -17_268_672..=70_389_501;

/// A checked name template: text with `{connection_id}`, `{partition}`, `{date}` and `{hour}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<NamePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum NamePart {
    Text(String),
    ConnectionId,
    Partition,
    Date,
    Hour,
}

impl NamePart {
    fn placeholder(name: &str) -> Result<Self, String> {
        match name {
            "connection_id" => Ok(Self::ConnectionId),
            "partition" => Ok(Self::Partition),
            "date" => Ok(Self::Date),
            "hour" => Ok(Self::Hour),
            _ => Err(format!(
                "`{{{name}}}` is not known: write {{connection_id}}, {{partition}}, {{date}} or {{hour}}"
            )),
        }
    }
}

impl Template {
    /// Parses and checks a name template.
    ///
    /// # Errors
    /// The mistake in the template, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('.') {
            return Err("a name must not be empty or begin with a dot".to_owned());
        }
        if let Some(odd) = text.chars().find(|c| *c == '/' || c.is_control() || c.is_whitespace()) {
            return Err(format!("{odd:?} is not allowed in a name"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or("a `{` without its `}`")?;
            pieces.extend(plain(before)?);
            pieces.push(NamePart::placeholder(name)?);
            rest = behind;
        }
        pieces.extend(plain(rest)?);
        Ok(Self(pieces))
    }

    /// Returns the template `dead-letters-{connection_id}`.
    pub(crate) fn dead_letters() -> Self {
        Self(vec![NamePart::Text("dead-letters-".to_owned()), NamePart::ConnectionId])
    }

    /// Returns whether the template has `{partition}`, which needs a fixed number of partitions.
    pub fn has_partition(&self) -> bool {
        self.0.contains(&NamePart::Partition)
    }

    /// Fills in the connection id. Characters that a file name can't hold are written as `%` and two hex
    /// digits.
    pub(crate) fn bind(&self, connection_id: &str) -> Stems {
        let bound = |piece: &NamePart| match piece {
            NamePart::ConnectionId => NamePart::Text(escaped(connection_id)),
            other => other.clone(),
        };
        Stems(self.0.iter().map(bound).collect())
    }
}

fn plain(text: &str) -> Result<Option<NamePart>, String> {
    match text {
        _ if text.contains('}') => Err("a `}` without its `{`".to_owned()),
        "" => Ok(None),
        _ => Ok(Some(NamePart::Text(text.to_owned()))),
    }
}

fn escaped(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.@+=".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The values of the placeholders for one line, which choose its file. Placeholders that the template does
/// not use are 0, so equal slots mean the same file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FileSlot {
    /// Hours since 1970.
    hour: i64,
    partition: u32,
}

/// All stems that one template gives for one connection id. One journal owns all of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stems(Vec<NamePart>);

impl Stems {
    /// Returns the slot for a time in milliseconds since 1970 and a partition. Each is computed only if the
    /// template uses it. A time outside the years 0 to 9999 counts as 1970: nobody means such a time, and
    /// [`parse`] would not recognise its date.
    pub(crate) fn slot(&self, millis: impl FnOnce() -> i64, partition: impl FnOnce() -> u32) -> FileSlot {
        let has = |piece| self.0.contains(&piece);
        let hours =
            || Some(millis().div_euclid(MILLIS_PER_HOUR)).filter(|hour| HOURS.contains(hour)).unwrap_or(0);
        let hour = match (has(NamePart::Date), has(NamePart::Hour)) {
            (true, true) => hours(),
            (true, false) => hours().div_euclid(24) * 24,
            (false, true) => hours().rem_euclid(24),
            (false, false) => 0,
        };
        FileSlot { hour, partition: if has(NamePart::Partition) { partition() } else { 0 } }
    }

    pub(crate) fn stem(&self, slot: FileSlot) -> String {
        let time = Timestamp::from_millisecond(slot.hour.saturating_mul(MILLIS_PER_HOUR));
        let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut stem = String::new();
        for piece in &self.0 {
            match piece {
                NamePart::Text(text) => stem.push_str(text),
                NamePart::ConnectionId => {}
                NamePart::Partition => stem.push_str(&slot.partition.to_string()),
                NamePart::Date => stem.push_str(&time.strftime("%Y-%m-%d").to_string()),
                NamePart::Hour => stem.push_str(&time.strftime("%H").to_string()),
            }
        }
        stem
    }

    /// Returns whether this template can produce `stem`.
    pub(crate) fn owns(&self, stem: &str) -> bool {
        matches(&self.0, stem.as_bytes())
    }

    /// The name of the file whose lock protects all these names.
    pub(crate) fn lock_name(&self) -> String {
        let mut name = ".".to_owned();
        for piece in &self.0 {
            match piece {
                NamePart::Text(text) => name.push_str(text),
                NamePart::ConnectionId => {}
                NamePart::Partition => name.push_str("{partition}"),
                NamePart::Date => name.push_str("{date}"),
                NamePart::Hour => name.push_str("{hour}"),
            }
        }
        name + ".lock"
    }
}

fn matches(pieces: &[NamePart], text: &[u8]) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
    match piece {
        NamePart::Text(expected) => {
            text.strip_prefix(expected.as_bytes()).is_some_and(|after| matches(rest, after))
        }
        NamePart::ConnectionId => matches(rest, text),
        NamePart::Partition => {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=digits).any(|n| matches(rest, &text[n..]))
        }
        NamePart::Date => fixed(text, b"0000-00-00").is_some_and(|after| matches(rest, after)),
        NamePart::Hour => fixed(text, b"00").is_some_and(|after| matches(rest, after)),
    }
}

/// Returns the text after a prefix of the form `shape`, in which `0` stands for any digit.
fn fixed<'a>(text: &'a [u8], shape: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(shape.len())?;
    let same = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    head.iter().zip(shape).all(same).then_some(rest)
}

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
        let digits_only = counter.len() >= 6 && counter.bytes().all(|byte| byte.is_ascii_digit());
        let counter = counter.parse().ok().filter(|_| digits_only)?;
        Some(Self { at: opening_time(time)?, counter })
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at.as_millisecond().rem_euclid(1000);
        write!(f, "{}{millis:03}Z-{:06}", self.at.strftime("%Y%m%dT%H%M%S"), self.counter)
    }
}

/// The part of a file name that stays the same in all states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Base(String);

impl Base {
    pub(crate) fn new(stem: &str, opening: FileNumber) -> Self {
        Self(format!("{stem}-{opening}"))
    }

    /// The name while the file is written.
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

    /// The name of the finished file.
    pub(crate) fn finished(&self, compression: FileCompression) -> String {
        match compression {
            FileCompression::None => format!("{}.jsonl", self.0),
            FileCompression::Zstd => format!("{}.jsonl.zst", self.0),
            FileCompression::Gzip => format!("{}.jsonl.gz", self.0),
        }
    }

    /// The name while the file is compressed.
    pub(crate) fn temporary(&self, compression: FileCompression) -> String {
        self.finished(compression) + ".tmp"
    }

    /// The name once the compressed file is complete.
    pub(crate) fn ready(&self, compression: FileCompression) -> String {
        self.finished(compression) + ".ready"
    }
}

/// The parts of a file name.
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
    let with_ending = |(ending, state): &(&str, FileState)| Some((file_name.strip_suffix(ending)?, *state));
    let (base, state) = ENDINGS.iter().find_map(with_ending)?;
    let (front, _) = base.rsplit_once('-')?;
    let (stem, _) = front.rsplit_once('-')?;
    let opening = FileNumber::parse(base.strip_prefix(stem)?.strip_prefix('-')?)?;
    stems.owns(stem).then(|| Parsed { base: Base(base.to_owned()), stem: stem.to_owned(), opening, state })
}

fn opening_time(text: &str) -> Option<Timestamp> {
    fixed(text.as_bytes(), b"00000000T000000000Z").filter(|rest| rest.is_empty())?;
    let seconds = DateTime::strptime("%Y%m%dT%H%M%S", text.get(..15)?).ok()?;
    let millis: i64 = text.get(15..18)?.parse().ok()?;
    TimeZone::UTC.to_timestamp(seconds).ok()?.checked_add(millis.milliseconds()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stems(template: &str) -> Stems {
        Template::parse(template).unwrap().bind("acme-b1")
    }

    const NOON: i64 = 1_795_262_400_000;

    #[test]
    fn placeholders_stand_for_the_events_own_time_and_partition() {
        let stems = stems("x-{date}T{hour}-p{partition}-{connection_id}");
        let slot = stems.slot(|| NOON + 59_999, || 7);
        assert_eq!(stems.stem(slot), "x-2026-11-21T12-p7-acme-b1");
        assert_eq!(slot, stems.slot(|| NOON, || 7));
        assert_ne!(slot, stems.slot(|| NOON + MILLIS_PER_HOUR, || 7));
        assert_eq!(stems.lock_name(), ".x-{date}T{hour}-p{partition}-acme-b1.lock");
    }

    #[test]
    fn a_date_has_four_digits_for_the_year_whatever_the_time() {
        let stems = stems("{date}T{hour}");
        let of = |millis| stems.stem(stems.slot(|| millis, || 0));
        let (first, last) = (*HOURS.start() * MILLIS_PER_HOUR, (*HOURS.end() + 1) * MILLIS_PER_HOUR - 1);
        assert_eq!((of(first).as_str(), of(last).as_str()), ("0000-01-01T00", "9999-12-30T21"));
        for millis in [first - 1, last + 1, i64::MIN, i64::MAX, -1_000_000_000_000_000] {
            assert_eq!(of(millis), "1970-01-01T00", "{millis}");
        }
        assert_eq!(of(-1), "1969-12-31T23");
    }

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
    fn what_the_template_does_not_use_makes_no_other_slot() {
        assert_eq!(stems("{connection_id}").slot(|| NOON, || 7), FileSlot::default());
        let daily = stems("{date}");
        assert_eq!(daily.slot(|| NOON, || 7), daily.slot(|| NOON + 11 * MILLIS_PER_HOUR, || 8));
        assert_ne!(daily.slot(|| NOON, || 7), daily.slot(|| NOON + 12 * MILLIS_PER_HOUR, || 7));
    }

    #[test]
    fn wrong_templates_say_what_is_wrong() {
        for (template, part) in [
            ("", "empty"),
            (".x", "dot"),
            ("a/b", "'/'"),
            ("a b", "' '"),
            ("a{b", "`{` without"),
            ("a}b", "`}` without"),
            ("{topic}", "`{topic}` is not known"),
        ] {
            let message = Template::parse(template).unwrap_err();
            assert!(message.contains(part), "{template}: {message}");
        }
    }

    #[test]
    fn a_connection_id_cannot_leave_the_directory_and_stays_distinct() {
        let template = Template::parse("{connection_id}").unwrap();
        assert_eq!(template.bind("../x").stem(FileSlot::default()), "..%2Fx");
        assert_ne!(template.bind("a%2Fb"), template.bind("a/b"));
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
