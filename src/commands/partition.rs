//! Runs `partition`: computes the partition of a person's events.

use std::io::{self, BufRead};
use std::num::NonZeroU32;

use clap::Args;

use super::{Console, Exit};
use crate::key::Key;

#[derive(Clone, Debug, Args)]
pub struct PartitionArgs {
    /// How many partitions there are: event.partitions, or those of the topic
    #[arg(long, value_name = "N")]
    pub partitions: NonZeroU32,
    /// MD5s, or addresses, which are trimmed, lower-cased and hashed; default: the lines of standard input
    #[arg(value_name = "MD5 OR ADDRESS")]
    pub inputs: Vec<String>,
}

/// Writes a line with key and partition, separated by a tab, for each input. Never repeats addresses, not
/// even in messages, because they identify people.
///
/// # Errors
/// The input can't be read or the console can't be written.
pub fn run(args: &PartitionArgs, stdin: impl BufRead, console: &mut Console<'_>) -> io::Result<Exit> {
    let mut exit = Exit::Success;
    if args.inputs.is_empty() {
        for (n, line) in stdin.split(b'\n').enumerate() {
            tell(&String::from_utf8_lossy(&line?), ("line", n + 1), args.partitions, console, &mut exit)?;
        }
    } else {
        for (n, input) in args.inputs.iter().enumerate() {
            tell(input, ("argument", n + 1), args.partitions, console, &mut exit)?;
        }
    }
    console.out.flush()?;
    Ok(exit)
}

fn tell(
    input: &str,
    place: (&str, usize),
    partitions: NonZeroU32,
    console: &mut Console<'_>,
    exit: &mut Exit,
) -> io::Result<()> {
    match key(input) {
        Some(key) => writeln!(console.out, "{key}\t{}", key.partition(partitions)),
        None => {
            *exit = Exit::Failure;
            writeln!(console.err, "error: {} {} is neither an MD5 nor an address", place.0, place.1)
        }
    }
}

/// Returns `input` as a key, or the key of `input` if it is an address.
fn key(input: &str) -> Option<Key> {
    let input = input.trim();
    let (name, domain) = input.rsplit_once('@').unwrap_or_default();
    let address = !name.is_empty() && !domain.is_empty() && !input.contains(char::is_whitespace);
    Key::from_hex(input.as_bytes()).or_else(|| address.then(|| Key::digest(input.to_lowercase().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(inputs: &[&str], stdin: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        let args = PartitionArgs { partitions: NonZeroU32::new(12).unwrap(), inputs };
        let mut console = Console::new(&mut out, &mut err);
        let exit = run(&args, stdin.as_bytes(), &mut console).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    /// The MD5 comes from `md5sum`; the partition comes from an independent implementation of murmur2.
    const JANE: &str = "9e26471d35a78862c17e467d87cddedf\t11\n";

    #[test]
    fn addresses_and_md5s_of_one_person_fall_together() {
        let forms = ["jane@example.com", " Jane@Example.COM ", "9E26471D35A78862C17E467D87CDDEDF"];
        let (exit, out, err) = run_with(&forms, "not read");
        assert_eq!((exit, out, err.as_str()), (Exit::Success, JANE.repeat(3), ""));
        let (exit, out, _) = run_with(&[], &format!("{}\r\n", forms.join("\n")));
        assert_eq!((exit, out), (Exit::Success, JANE.repeat(3)));
    }

    #[test]
    fn what_is_neither_fails_but_not_the_rest() {
        let (exit, out, err) = run_with(&[], "jane\njane@example.com\n\na b@c\n@c\na@\n");
        assert_eq!((exit, out.as_str()), (Exit::Failure, JANE));
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), 5, "{err}");
        assert_eq!(lines[0], "error: line 1 is neither an MD5 nor an address");
        assert!(!err.contains("jane"));
    }
}
