//! How a worker's work is timed.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Write as _};
use std::time::Instant;

use crate::Outcome;

/// Answers questions: how much to do in, nanoseconds out.
///
/// # Errors
/// Those of the work, and when the bench is gone.
pub(crate) fn answer(mut work: impl FnMut(usize) -> io::Result<Vec<u128>>) -> Outcome<()> {
    for question in io::stdin().lock().lines() {
        let samples = work(question?.trim().parse()?)?;
        let mut line = String::new();
        for sample in samples {
            write!(line, "{sample} ")?;
        }
        println!("{}", line.trim_end());
        io::stdout().flush()?;
    }
    Ok(())
}

/// Times each piece of work by itself; what it returns is dropped outside the time.
pub(crate) fn each<T>(
    mut piece: impl FnMut() -> io::Result<T>,
) -> impl FnMut(usize) -> io::Result<Vec<u128>> {
    move |count| {
        (0..count)
            .map(|_| {
                let started = Instant::now();
                let result = piece()?;
                let took = started.elapsed();
                drop(result);
                Ok(took.as_nanos())
            })
            .collect()
    }
}

/// What is too short to be timed alone: the mean of as many as asked for.
pub(crate) fn mean(mut piece: impl FnMut() -> io::Result<()>) -> impl FnMut(usize) -> io::Result<Vec<u128>> {
    move |count| {
        let started = Instant::now();
        for _ in 0..count {
            piece()?;
        }
        Ok(vec![started.elapsed().as_nanos() / count.max(1) as u128])
    }
}
