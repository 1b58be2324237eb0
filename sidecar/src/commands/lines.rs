//! Files of many lines, read one by one within bounds.

use std::io::{BufRead, BufReader, Read};

/// Opens a file; `-` is standard input.
pub(super) fn open(file: &str) -> Result<Box<dyn BufRead>, String> {
    if file == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = std::fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// Calls `each` with every line that says something, of at most so many bytes, and with its place: `FILE, line 7`.
pub(super) fn each<E: From<String>>(
    mut input: impl BufRead,
    file: &str,
    most: usize,
    mut each: impl FnMut(&[u8], &str) -> Result<(), E>,
) -> Result<(), E> {
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let place = format!("{file}, line {number}");
        let read = input.by_ref().take(most as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("{place}: {error}"))? == 0 {
            break;
        }
        if line.len() > most {
            return Err(format!("{place}: it has more than {most} bytes").into());
        }
        if !line.trim_ascii().is_empty() {
            each(line.trim_ascii(), &place)?;
        }
    }
    Ok(())
}
