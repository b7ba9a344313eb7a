//! What each kernel program costs over an empty one: a table, and the same as JSON.

use std::process::ExitCode;

use caliprobe::kernel::bench::{Measurement, measure};

fn main() -> ExitCode {
    match measure() {
        Ok(measurements) => {
            print(&measurements);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(measurements: &[Measurement]) {
    println!("{:<26} {:<24} {:>9} {:>8}", "program", "packet", "ns", "budget");
    for Measurement { program, packet, nanoseconds, budget } in measurements {
        let budget = budget.map_or_else(String::new, |budget| format!("{budget:.0}"));
        println!("{program:<26} {packet:<24} {nanoseconds:>9.1} {budget:>8}");
    }
    match serde_json::to_string(measurements) {
        Ok(json) => println!("{json}"),
        Err(error) => eprintln!("error: {error}"),
    }
}
