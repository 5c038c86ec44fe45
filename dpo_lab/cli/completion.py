"""`dpo-lab completion`: completion of stages, groups, options and keys for bash; Hydra answers what a word may become."""

from dpo_lab.cli.arguments import TOOLS
from dpo_lab.cli.conf import stages

SCRIPT = r"""# Completion for dpo-lab, python train.py and python scripts/STAGE.py: eval "$(dpo-lab completion)"
_dpo_lab_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" word program choices
    word="${line##* }"
    local -a words
    read -ra words <<< "$line"
    COMPREPLY=()
    case "${words[0]}" in
        *python*)
            case "${words[1]}" in
                train.py|*/train.py|scripts/*.py|*/scripts/*.py) [ -f "${words[1]}" ] || return ;;
                *) return ;;
            esac
            program="${words[0]} ${words[1]}" ;;
        *)
            if [ "${#words[@]}" -lt 2 ] || { [ "${#words[@]}" -eq 2 ] && [ -n "$word" ]; }; then
                COMPREPLY=($(compgen -W "@WORDS@" -- "$word"))
                [ "${#COMPREPLY[@]}" -eq 1 ] && COMPREPLY[0]+=" "
                return
            fi
            case " @STAGES@ " in *" ${words[1]} "*) ;; *) return ;; esac
            program="${words[0]} ${words[1]}" ;;
    esac
    choices=$(COMP_LINE="dpo-lab ${line#*"${words[1]} "}" $program -sc query=bash 2> /dev/null |
        tr ' ' '\n' | grep -vE '^(hydra|outputs)|_target_')
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")  # bash replaces what follows the last =
    fi
}
complete -o nospace -o default -F _dpo_lab_completion dpo-lab python python3
"""


def script() -> str:
    """Return the text that bash evaluates."""
    names = " ".join(stages())
    return SCRIPT.replace("@WORDS@", f"{names} {' '.join(TOOLS)}").replace("@STAGES@", names)
