//! The `macula` command.

mod bench;

fn main() -> anyhow::Result<()> {
    let suite = bench::run(bench::SuiteName::Supervision, 1)?;
    #[expect(clippy::print_stdout, reason = "tmp")]
    { println!("{}", suite.table()); }
    Ok(())
}
