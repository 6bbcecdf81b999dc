use clap::{CommandFactory, Parser};

use super::{Cli, arguments};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = line.split(' ').map(Into::into).collect();
    Cli::try_parse_from(arguments::upstream(words))
}

#[test]
fn flags_do_not_clash() {
    Cli::command().debug_assert();
}

#[test]
fn takes_the_command_lines_of_upstream() {
    for line in [
        "layotto start -c configs/config.json",
        "layotto -c configs/config.json -f auto_config=false -l warning -ll debug",
        "layotto start -s cluster -n node -p sidecar -sm a=b -sl c=d -pns ns -pn pod -pi 1.2.3.4",
        "layotto start --concurrency 2 --restart-epoch 0 --disable-hot-restart --drain-time-s 5",
        "layotto start --parent-shutdown-time-s 60 --max-obj-name-len 189 --log-format x --bootstrap-version 3",
        "layotto stop",
        "layotto stop -c x.json",
        "layotto reload",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn refuses_what_nobody_knows() {
    for line in [
        "layotto nope",
        "layotto start --nope",
        "layotto start -f Other=true",
        "layotto call",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    assert_eq!(parse("layotto --help").unwrap_err().exit_code(), 0);
}
