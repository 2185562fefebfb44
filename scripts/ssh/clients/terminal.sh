# A terminal as people use it: tmux shows what `ssh -t` draws. vim is drawn on
# the alternate screen, the size follows the window, and keys arrive.
client=terminal
version="$(tmux -V) $(vi --version 2>/dev/null | head -n 1 | cut -d ' ' -f 1-5)"
command -v tmux >/dev/null || absent "no tmux"
vim=$(command -v vim.basic vim.tiny vim | head -n 1)
[ -n "$vim" ] || absent "no vim"

tm() { tmux -S "$dir/tmux" -f /dev/null "$@"; }
trap 'tm kill-server 2>/dev/null || true' EXIT
screen() { tm capture-pane -p -t s; }
shows() { screen | grep -Eq -- "$1"; }
# seen WHAT PATTERN waits until the screen shows it.
seen() {
	checks=$((checks + 1))
	until_true 30 shows "$2" || problem "$1: the screen does not show $2" "$(screen)"
}
keys() { tm send-keys -t s "$@"; }

tm new-session -d -s s -x 100 -y 30 "env TERM=xterm-256color ssh -tt guest 'PS1=ready: exec bash --norc --noprofile'"
seen "a prompt" 'ready:'
keys 'stty size' Enter
seen "the size" '^30 100'
keys 'tput cols; echo $TERM' Enter
seen "TERM" 'xterm-256color'
tm set-option -g window-size manual
tm resize-window -t s -x 71 -y 23
# Asked again, since ssh may pass on what is typed before it looks at its size.
ask_size() { keys 'clear; stty size' Enter && until_true 1 shows '^23 71'; }
checks=$((checks + 1))
until_true 30 ask_size || problem "the new size" "$(screen)"

keys "$vim -u NONE -N $far/edited" Enter
seen "vim fills the screen" '^~$'
equal "and it is the alternate one" 1 "$(tm display-message -p -t s '#{alternate_on}')"
keys i 'typed in vim' Escape
seen "what is typed" 'typed in vim'
keys ':set ruler columns?' Enter
seen "vim knows the size" 'columns=71'
tm resize-window -t s -x 90 -y 25
# Asked again, since the redrawing that the resize brings wipes an answer away.
ask_columns() { keys ':set columns?' Enter && until_true 1 shows 'columns=90'; }
checks=$((checks + 1))
until_true 30 ask_columns || problem "vim does not follow the size" "$(screen)"
keys ':wq' Enter
seen "back on the first screen" 'stty size|ready:'
until_true 10 test -s "$far/edited"
equal "the file" 'typed in vim' "$(cat "$far/edited" 2>/dev/null)"
equal "the first screen again" 0 "$(tm display-message -p -t s '#{alternate_on}')"

keys "clear; sh -c 'echo sleeping; exec sleep 1000'" Enter
seen "a program" '^sleeping'
keys C-c
keys 'echo status $?' Enter
seen "Ctrl-C interrupts it" '^status 130'
keys 'clear; cat' Enter
keys 'echoed' Enter
seen "a line and its echo" 'echoed'
keys C-d
keys 'clear; stty -echo; echo hidden; read secret; stty echo; echo "got <$secret>"' Enter
seen "the echo is off" "^hidden"
keys 'hush' Enter
seen "without echo" 'got <hush>'
keys 'clear; tty > '"$far/tty"'; exit 0' Enter
until_true 20 test -s "$far/tty"
gone() { ! tm has-session -t s 2>/dev/null; }
checks=$((checks + 1))
until_true 20 gone || problem "the end of the shell is the end of ssh" "$(screen)"

# A client that is killed takes its terminal's programs with it.
tm new-session -d -s s -x 80 -y 24 "ssh -tt guest 'echo \$\$ >$far/pid; exec sleep 1000'"
until_true 20 test -s "$far/pid"
pid=$(cat "$far/pid")
tm kill-session -t s
checks=$((checks + 1))
gone_pid() { ! kill -0 "$pid" 2>/dev/null; }
until_true 20 gone_pid || problem "the terminal's program outlives its client: pid $pid"
finish
