# Completion of ./counter for bash, and for zsh with bashcompinit.
_counter() {
  local IFS=$'\n' current=${COMP_WORDS[COMP_CWORD]}
  # The command itself knows what can follow. It may have been typed with ~.
  # shellcheck disable=SC2207  # zsh has no mapfile
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]/#\~/$HOME}" completion words "${COMP_WORDS[@]:1:$COMP_CWORD}" 2>/dev/null)" -- "${current#=}"))
}
complete -o default -F _counter ./counter counter
