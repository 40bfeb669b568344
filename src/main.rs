//! `trefoil`: arguments to pipeline to exit code.
//!
//! Exit codes: 0 passed, 1 a check failed, 2 could not run, 130 interrupted. Data goes to stdout, progress and errors to
//! stderr.

mod build;
mod command;
mod names;
mod pages;
mod recipe;
mod show;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use validate::bench::machine;

use crate::command::arguments::{Common, Verdict};
use crate::command::failure::{self, Failure, UsageError};
use crate::show::progress::Display;
use crate::show::record;
use crate::show::table::size;

/// Grows ONNX, GGUF and quantized safetensors from one encoder-decoder checkpoint, and tests each in a real engine.
#[derive(Parser)]
#[command(name = "trefoil", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Shows what is supported
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, default_missing_value = "all")]
    list: Option<command::list::What>,
    /// With --list: as the table of the README
    #[arg(long, requires = "list", conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the artifacts of a recipe, tests them and writes the report
    Convert(command::convert::Convert),
    /// Makes what changed of the artifacts of recipes, from a cache that machines share, with a lock beside each recipe
    Build(command::build::Build),
    /// Measures what each weight may lose, and writes the recipe of the smallest plan within a budget
    Tune(command::tune::Tune),
    /// Shows a checkpoint or an artifact: architecture, entries, tensors, sizes
    Inspect(command::inspect::Inspect),
    /// Tests an artifact against the checkpoint that it was made from
    Validate(command::validate::Validate),
    /// Makes the artifacts of a recipe again and says whether they have the bytes that lie there; changes nothing
    Verify(command::verify::Verify),
    /// Renders a report again, or says what changed from one to another
    #[command(subcommand)]
    Report(command::report::ReportCommand),
    /// Feeds a text to an artifact or a checkpoint and prints what it answers
    Run(command::run::Run),
    /// Measures first token, tokens per second and memory of artifacts in their engines, side by side
    Bench(command::bench::Bench),
    /// Asks two artifacts of any tool the same questions, each in its engines, and reports how they differ
    Compare(command::compare::Compare),
    /// Says what an NPU toolchain will refuse in ONNX files, or compute wrongly
    Lint(command::lint::Lint),
    /// Says which engines are here, why others are not and what brings them, and what the machine has
    Doctor(command::doctor::Doctor),
    /// Prints what completes these commands in a shell
    Completions(command::completions::Completions),
    /// Prints the manual page, or writes one a command into a folder
    Man(command::man::Man),
    /// Shows what is kept between runs, and clears it
    Cache(command::cache::Cache),
    /// An engine in a process of its own, for this program to ask over a pipe
    #[command(name = validate::runtime::COMMAND, hide = true)]
    Engine {
        /// As `--list engines` names it
        name: String,
        /// The folder of an artifact
        artifact: PathBuf,
    },
    /// Checks a recipe, or shows what one may say
    #[command(subcommand)]
    Recipe(RecipeCommand),
}

impl Command {
    /// Whether a missing engine fails. `convert` and `validate` say so in their reports.
    fn is_strict(&self) -> bool {
        match self {
            Command::Run(run) => run.engines.strict,
            Command::Bench(bench) => bench.engines.strict,
            Command::Compare(compare) => compare.engines.strict,
            _ => false,
        }
    }
}

#[derive(Subcommand)]
enum RecipeCommand {
    /// Reads a recipe and its checkpoint and prints how each weight would be stored; writes nothing
    Check {
        /// The recipe
        recipe: PathBuf,
        /// Another checkpoint than the recipe's
        #[arg(long, value_name = "DIR")]
        model: Option<PathBuf>,
    },
    /// Writes a recipe for a checkpoint, with the defaults of its family
    New(command::recipe::New),
    /// Prints the JSON schema of recipes
    Schema,
}

/// The exit code after an interrupt.
const BY_INTERRUPT: u8 = 130;

// Set before the handler removes what is unfinished, so that the errors which that provokes are not told.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if failure::is_asked_for(&error) || !asks_for_json() => error.exit(),
        Err(error) => {
            let failure = Failure::of_arguments(&error);
            failure.tell(true);
            return ExitCode::from(failure.exit_code());
        }
    };
    let Common { quiet, json: as_json, verbose, .. } = arguments.common;
    // The record tells more of the same.
    let display = Display::new(quiet || as_json || verbose > 0);
    let strict = arguments.command.as_ref().is_some_and(Command::is_strict);
    let found = recorded(arguments.common.log.clone(), verbose).and_then(|()| dispatch(arguments, &display));
    display.finish();
    let code = match found {
        _ if INTERRUPTED.load(Ordering::SeqCst) => loop {
            // The handler ends the program.
            std::thread::park();
        },
        Ok(Verdict::Passed) => 0,
        Ok(Verdict::Failed) => 1,
        Err(error) => {
            let failure = Failure::of(&error, strict);
            failure.tell(as_json);
            failure.exit_code()
        }
    };
    let most = machine::Memory::of(None).map_or("unknown".to_owned(), |memory| size(memory.peak_bytes));
    log::info!("exit code {code}; most memory of this process: {most}");
    ExitCode::from(code)
}

/// Keeps a record of the run where that is asked for, and begins it with the command line.
fn recorded(file: Option<PathBuf>, verbose: u8) -> anyhow::Result<()> {
    record::keep(verbose, file.as_deref())
        .map_err(|source| UsageError::Log { file: file.unwrap_or_default(), source })?;
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    log::info!("trefoil {} {}", env!("CARGO_PKG_VERSION"), words.collect::<Vec<_>>().join(" "));
    Ok(())
}

/// Whether `--json` is among arguments that could not be read.
fn asks_for_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

fn dispatch(arguments: Arguments, display: &Display) -> anyhow::Result<Verdict> {
    let common = arguments.common;
    if let Some(threads) = common.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
    }
    if let Some(Command::Engine { name, artifact }) = &arguments.command {
        validate::runtime::serve(name, artifact)?;
        return Ok(Verdict::Passed);
    }
    let as_json = common.json;
    ctrlc::set_handler(move || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        // What is unfinished goes first: behind this no run puts anything in its place, whatever it hears of ended engines.
        build::folder::remove_unfinished();
        validate::runtime::end_children();
        let left = match build::folder::has_committed() {
            false => "nothing unfinished is left behind",
            true => "what was finished before is in its place",
        };
        match as_json {
            true => Failure::of_interrupt(left, BY_INTERRUPT).tell(true),
            false => drop(writeln!(std::io::stderr(), "\ninterrupted: {left}")),
        }
        // Not by `exit`, which waits for what libraries in C++ do at their end.
        signal_hook::low_level::exit(BY_INTERRUPT.into());
    })
    .context("cannot watch for an interrupt")?;
    match (arguments.list, arguments.command) {
        (Some(what), None) => command::list::print(what, arguments.markdown, common.json),
        (Some(_), Some(_)) => Err(UsageError::ListAndCommand.into()),
        (None, None) => {
            if !common.json {
                Arguments::command().write_long_help(&mut std::io::stderr())?;
            }
            Err(UsageError::Nothing.into())
        }
        (None, Some(Command::Convert(convert))) => Ok(command::convert::convert(&convert, &common, display)?),
        (None, Some(Command::Build(arguments))) => Ok(command::build::build(&arguments, &common, display)?),
        (None, Some(Command::Tune(arguments))) => Ok(command::tune::tune(&arguments, &common, display)?),
        (None, Some(Command::Inspect(inspect))) => Ok(command::inspect::inspect(&inspect, &common)?),
        (None, Some(Command::Validate(validate))) => Ok(command::validate::validate(&validate, &common, display)?),
        (None, Some(Command::Verify(verify))) => Ok(command::verify::verify(&verify, &common, display)?),
        (None, Some(Command::Report(report))) => Ok(command::report::report(&report, &common)?),
        (None, Some(Command::Run(run))) => Ok(command::run::run(&run, &common, display)?),
        (None, Some(Command::Bench(bench))) => Ok(command::bench::bench(&bench, &common, display)?),
        (None, Some(Command::Compare(arguments))) => Ok(command::compare::compare(&arguments, &common, display)?),
        (None, Some(Command::Doctor(doctor))) => Ok(command::doctor::doctor(&doctor, &common, display)?),
        (None, Some(Command::Completions(completions))) => {
            Ok(command::completions::completions(&completions, Arguments::command())?)
        }
        (None, Some(Command::Man(man))) => Ok(command::man::man(&man, Arguments::command())?),
        (None, Some(Command::Cache(arguments))) => Ok(command::cache::run(&arguments, &common)?),
        (None, Some(Command::Engine { .. })) => unreachable!("it has been served"),
        (None, Some(Command::Lint(arguments))) => Ok(command::lint::run(&arguments, &common)?),
        (None, Some(Command::Recipe(RecipeCommand::Check { recipe, model }))) => {
            Ok(command::recipe::check(&recipe, model.as_deref(), &common, display)?)
        }
        (None, Some(Command::Recipe(RecipeCommand::New(new)))) => Ok(command::recipe::new(&new, display)?),
        (None, Some(Command::Recipe(RecipeCommand::Schema))) => {
            show::terminal::print(&recipe::schema::schema())?;
            Ok(Verdict::Passed)
        }
    }
}
