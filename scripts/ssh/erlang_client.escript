#!/usr/bin/env escript
%% Erlang's ssh application as a client: commands over one connection, one of
%% them killed by a signal, then files. Prints what went wrong; its status is the
%% number of that.
%%
%%   erlang_client.escript PORT USER_DIR FAR     USER_DIR holds a key and known_hosts

main([Port, UserDir, Far]) ->
    {ok, _} = application:ensure_all_started(ssh),
    logger:set_primary_config(level, none),
    {ok, Connection} = ssh:connect("127.0.0.1", list_to_integer(Port),
                                   [{user, os:getenv("USER", "root")}, {user_dir, UserDir},
                                    {user_interaction, false}, {silently_accept_hosts, false}]),
    Bulk = binary:copy(<<"0123456789abcdef">>, 200000),
    Checks =
        [{"a command", {<<"hello\n">>, <<>>, 0}, fun() -> run(Connection, "echo hello", <<>>) end},
         {"its streams and status", {<<"o\n">>, <<"e\n">>, 3},
          fun() -> run(Connection, "echo o; echo e >&2; exit 3", <<>>) end},
         {"bytes both ways", {Bulk, <<>>, 0}, fun() -> run(Connection, "cat", Bulk) end},
         {"killed", true, fun() -> {_, _, Exit} = run(Connection, "kill -KILL $$", <<>>), is_killed(Exit) end},
         {"the connection after that", {<<"on\n">>, <<>>, 0}, fun() -> run(Connection, "echo on", <<>>) end},
         {"files", {ok, {ok, Bulk}, ok, {error, no_such_file}}, fun() -> files(Connection, Far, Bulk) end}],
    Failed = [Name || {Name, Want, Check} <- Checks, not passes(Name, Want, Check)],
    halt(length(Failed)).

passes(Name, Want, Check) ->
    Got = try Check() catch Class:Reason -> {Class, Reason} end,
    Got =:= Want orelse begin io:format("~s: ~P, want ~P~n", [Name, Got, 12, Want, 12]), false end.

%% sshd tells a signal; guestd tells Erlang a status, as from a shell.
is_killed(Exit) -> Exit =:= 128 + 9 orelse Exit =:= "KILL".

run(Connection, Command, Input) ->
    {ok, Channel} = ssh_connection:session_channel(Connection, infinity),
    success = ssh_connection:exec(Connection, Channel, Command, infinity),
    %% One that sends and reads in one process would wait for itself.
    spawn_link(fun() -> ssh_connection:send(Connection, Channel, Input),
                        ssh_connection:send_eof(Connection, Channel) end),
    collect(Connection, Channel, {[], [], none}).

collect(Connection, Channel, {Out, Err, Exit}) ->
    receive
        {ssh_cm, Connection, {data, Channel, Type, Data}} ->
            ssh_connection:adjust_window(Connection, Channel, byte_size(Data)),
            case Type of
                0 -> collect(Connection, Channel, {[Out, Data], Err, Exit});
                1 -> collect(Connection, Channel, {Out, [Err, Data], Exit})
            end;
        {ssh_cm, Connection, {exit_status, Channel, Status}} -> collect(Connection, Channel, {Out, Err, Status});
        {ssh_cm, Connection, {exit_signal, Channel, Signal, _, _}} -> collect(Connection, Channel, {Out, Err, Signal});
        {ssh_cm, Connection, {eof, Channel}} -> collect(Connection, Channel, {Out, Err, Exit});
        {ssh_cm, Connection, {closed, Channel}} -> {iolist_to_binary(Out), iolist_to_binary(Err), Exit}
    end.

files(Connection, Far, Bulk) ->
    {ok, Sftp} = ssh_sftp:start_channel(Connection),
    {ssh_sftp:write_file(Sftp, Far ++ "/file", Bulk), ssh_sftp:read_file(Sftp, Far ++ "/file"),
     ssh_sftp:rename(Sftp, Far ++ "/file", Far ++ "/renamed"), ssh_sftp:read_file(Sftp, Far ++ "/file")}.
