// Relative links of the Markdown files work in the repository, and in the package, which has the same folders. On the package's page of a
// registry they do not: README.md is shown there alone. So `prepack` makes them absolute where `repository` says what they are relative to.
import { posix } from 'node:path';

/** `](target)`: of links and images, with an optional title. */
const LINK = /\]\(([^()\s]+)((?:\s+"[^"]*")?)\)/g;
/** A fenced block or inline code: no links in there. */
const CODE = /^(```|~~~)[\s\S]*?^\1|(`+)[^`][\s\S]*?\2/gm;

/**
 * @param {string | { url: string } | undefined} repository the field of package.json
 * @returns {string | null} the https URL of the repository on GitHub or GitLab, `null` if there is none
 */
export function webUrlOf(repository) {
  const url = typeof repository === 'string' ? repository : repository?.url;
  if (!url) return null;
  const short = /^(?:github:)?([\w.-]+\/[\w.-]+)$/.exec(url);
  if (short) return `https://github.com/${short[1]}`;
  const long = /^(?:git\+)?(?:https|ssh|git):\/\/(?:[^@/]+@)?([\w.-]+)\/(.+?)(?:\.git)?\/?$/.exec(url);
  if (!long)
    throw new Error(
      `Cannot make links absolute: unknown form of repository '${url}' in package.json. Use 'git+https://HOST/OWNER/NAME.git'.`,
    );
  return `https://${long[1]}/${long[2]}`;
}

/**
 * @param {string} markdown
 * @param {string} file path of the file in the repository, with `/`
 * @param {string} webUrl of the repository
 * @param {string} ref the branch, tag or commit that links lead to
 */
export function withAbsoluteLinks(markdown, file, webUrl, ref) {
  let linked = '';
  let end = 0;
  for (const { 0: code, index } of markdown.matchAll(CODE)) {
    linked += markdown.slice(end, index).replace(LINK, absolute) + code;
    end = index + code.length;
  }
  return linked + markdown.slice(end).replace(LINK, absolute);

  /** @type {(whole: string, target: string, title: string) => string} */
  function absolute(whole, target, title) {
    if (/^([a-z][a-z0-9+.-]*:|#|\/)/i.test(target)) return whole;
    const [path = '', anchor] = target.split('#');
    const place = posix.join(posix.dirname(file), path);
    return `](${webUrl}/blob/${ref}/${place}${anchor === undefined ? '' : `#${anchor}`}${title})`;
  }
}
