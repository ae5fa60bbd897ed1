// Names of shells. cspell:ignore CWORD COMPREPLY bashcompinit compdef compgen esac
import { Argument, type Command, type Option } from 'commander';
import { handler, type Cli } from '../terminal/cli.js';

/** A command with its subcommands and options. */
interface Word {
  /** `listeners create`; `''` for the program. */
  readonly path: string;
  readonly description: string;
  readonly subcommands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly string[];
}

const SHELLS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;

/** `completion`: a script that completes commands and options in a shell. */
export function addCompletion(program: Command, cli: Cli): void {
  program
    .command('completion')
    .description('Prints a script for your shell, such as: source <(nestjs-entity-webhooks completion bash).')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SHELLS)))
    .action(
      handler(cli, (shell: keyof typeof SHELLS) => {
        cli.terminal.out(SHELLS[shell](program.name(), wordsOf(program)));
        return Promise.resolve(0 as const);
      }),
    );
}

function wordsOf(command: Command, path: readonly string[] = []): Word[] {
  const options = command.options.filter(({ hidden }) => !hidden).map(flagOf);
  const subcommands = command.commands.map((sub) => ({ name: sub.name(), description: sub.description() }));
  const word = {
    path: path.join(' '),
    description: command.description(),
    subcommands,
    options: [...options, '--help'],
  };
  return [word, ...command.commands.flatMap((sub) => wordsOf(sub, [...path, sub.name()]))];
}

function flagOf({ long, short }: Option): string {
  return long ?? short ?? '';
}

/** The words that may follow a command: its subcommands, and its options. */
function wordList({ subcommands, options }: Word): string {
  return [...subcommands.map(({ name }) => name), ...options].join(' ');
}

/** The words of the line that are not options determine the command. */
function bashScript(name: string, words: readonly Word[]): string {
  const cases = words.map((word) => `    '${word.path}') words='${wordList(word)}' ;;`);
  return `_${identifier(name)}() {
  local path='' words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " ${pathWords(words)} " in *" \${path:+$path:}$word "*) path="\${path:+$path:}$word" ;; esac
  done
  case "\${path//:/ }" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _${identifier(name)} ${name}`;
}

function zshScript(name: string, words: readonly Word[]): string {
  return `#compdef ${name}
autoload -U +X bashcompinit && bashcompinit
${bashScript(name, words)}`;
}

function fishScript(name: string, words: readonly Word[]): string {
  const lines = words.flatMap(({ path, subcommands, options }) => {
    const condition =
      path === ''
        ? '__fish_use_subcommand'
        : path
            .split(' ')
            .map((word) => `__fish_seen_subcommand_from ${word}`)
            .join('; and ');
    return [
      ...subcommands.map(
        (sub) => `complete -c ${name} -f -n '${condition}' -a ${sub.name} -d '${quoted(sub.description)}'`,
      ),
      ...options
        .filter((flag) => flag.startsWith('--'))
        .map((flag) => `complete -c ${name} -n '${condition}' -l ${flag.slice(2)}`),
    ];
  });
  return lines.join('\n');
}

/** The command paths, each joined to one word, so that the shell script can search for them in a list. */
function pathWords(words: readonly Word[]): string {
  return words
    .map(({ path }) => path.replaceAll(' ', ':'))
    .filter((path) => path !== '')
    .join(' ');
}

function identifier(name: string): string {
  return name.replaceAll('-', '_');
}

function quoted(text: string): string {
  return text.replaceAll("'", String.raw`\'`);
}
