"""Bugs in what reads and judges the properties file, and in as whom and from where on AWS is asked."""

from __future__ import annotations

from mutants import Mutant

_KEYS = "tests/unit/test_kcl_keys.py"
_LATEST = "tests/integration/test_latest.py"
_IDENTITY = "tests/integration/test_identity.py"
_PROBES = "tests/integration/test_check_probes.py"

MUTANTS = [
    Mutant(
        "a blank after a switch is taken, and KCL reads false",
        "kcl_receiver/config/kcl_values.py",
        "    Kind.SWITCH: lambda text: text.lower() in _SWITCHES,\n",
        "    Kind.SWITCH: lambda text: text.strip().lower() in _SWITCHES,\n",
        (f"{_KEYS}::test_values_are_judged_as_the_daemon_reads_them[Kind.SWITCH-good5-bad5]",),
    ),
    Mutant(
        "a number beyond 32 bits is taken, and KCL reads 0",
        "kcl_receiver/config/kcl_values.py",
        "    return number if -(1 << bits - 1) <= number < 1 << bits - 1 else None\n",
        "    return number\n",
        (f"{_KEYS}::test_values_are_judged_as_the_daemon_reads_them[Kind.INT-good0-bad0]",),
    ),
    Mutant(
        "a hint proposes what another check refuses",
        "kcl_receiver/daemon/checks.py",
        "    return refused[0].instead if refused else finding.instead\n",
        "    return finding.instead\n",
        (
            "tests/unit/test_hints.py::test_a_refused_value_is_named_with_its_key_and_with_a_line_that_works"
            "[skipShardSyncAtWorkerInitializationIfLeasesExist]",
        ),
    ),
    Mutant(
        "the log directory is not looked at",
        "kcl_receiver/daemon/probes.py",
        "    yield from probe_log_directory(config.log_directory)\n",
        "",
        (f"{_PROBES}::test_a_log_directory_without_the_right_to_write_exits_with_3",),
    ),
    Mutant(
        "a user without a home ends every command",
        "kcl_receiver/config/properties.py",
        '    if not state.startswith("/") and not home.startswith("/"):\n',
        "    if False:\n",
        ("tests/unit/test_config.py::test_a_user_without_a_home_has_its_logs_beside_the_socket[None]",),
    ),
    Mutant(
        "a java that is named from here is looked for on the PATH",
        "kcl_receiver/daemon/java.py",
        "    path = path.absolute()\n",
        "",
        ("tests/unit/test_java.py::test_a_java_that_is_named_from_here_is_found[./java8]",),
    ),
    Mutant(
        "python acts as whom it likes",
        "kcl_receiver/config/properties.py",
        "Identity(credentials.providers(self.raw, service), keys",
        "Identity((), keys",
        (f"{_IDENTITY}::test_a_role_for_each_service", f"{_IDENTITY}::test_check_asks_as_the_file_says"),
    ),
    Mutant(
        "the tables are asked as the stream is",
        "kcl_receiver/config/credentials.py",
        '    "dynamodb": ("awsCredentialsProviderDynamoDB", "awsCredentialsProvider"),\n',
        '    "dynamodb": ("awsCredentialsProvider",),\n',
        (f"{_IDENTITY}::test_a_role_for_each_service",),
    ),
    Mutant(
        "a second host moves the time from which LATEST reads",
        "kcl_receiver/aws.py",
        '            ConditionExpression="attribute_not_exists(#key)",\n'
        '            ExpressionAttributeNames={"#key": key},\n',
        "",
        (f"{_LATEST}::test_an_item_that_is_there_is_kept",),
    ),
    Mutant(
        "leases that have begun at a time get another one",
        "kcl_receiver/daemon/start.py",
        "        if unknown is not None:\n",
        "        if False:\n",
        (f"{_LATEST}::test_no_time_is_made_up_for_leases_that_have_begun_at_one",),
    ),
    Mutant(
        "a clock that is ahead leaves records out",
        "kcl_receiver/daemon/start.py",
        "min(now_millis, now_millis if service_millis is None else service_millis)",
        "now_millis",
        (f"{_LATEST}::test_a_host_whose_clock_is_ahead_begins_at_the_services_time",),
    ),
    Mutant(
        "KCL's own LATEST is started without run",
        "kcl_receiver/cli/generator.py",
        "    if not os.environ.get(SUPERVISED):\n",
        "    if False:\n",
        (f"{_LATEST}::test_a_generator_without_run_refuses_latest_with_the_line_to_write",),
    ),
    Mutant(
        "LATEST begins now although shards were read before",
        "kcl_receiver/daemon/start.py",
        "        if leases:\n",
        "        if False:\n",
        (
            "tests/integration/test_latest.py::test_where_shards_were_read_before_those_without_a_lease_are_read_from_their_beginning",
        ),
    ),
    Mutant(
        "a secret among options of java is repeated",
        "kcl_receiver/config/properties.py",
        "        if value is not None and _SECRET_OPTION.search(value):\n",
        "        if False:\n",
        ("tests/unit/test_config.py::test_a_secret_among_options_of_java_is_not_repeated_whatever_the_key",),
    ),
]
