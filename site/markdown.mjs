/**
 * What the site does with the documents' Markdown, beyond links: the front page, descriptions, tables.
 */

/** @typedef {import('vitepress').MarkdownRenderer} MarkdownRenderer */
/** @typedef {ReturnType<MarkdownRenderer['parse']>} Tokens */

/** A heading's anchor, as GitHub makes it. @param {string} heading */
export function anchor(heading) {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
    .replaceAll(' ', '-')
}

/**
 * Takes the page's description from its first paragraph, for search engines and previews.
 *
 * @param {MarkdownRenderer} md
 */
export function descriptions(md) {
  md.core.ruler.push('descriptions', ({ tokens, env }) => {
    const first = tokens.findIndex(({ type, level }) => type === 'paragraph_open' && level === 0)
    const text = plain(tokens[first + 1])
    env.frontmatter = { ...(text && { description: text.replace(/:$/, '.') }), ...env.frontmatter }
  })
}

/** The text of a token without its markup. @param {Tokens[number]} [token] */
function plain(token) {
  return (token?.children ?? []).map(({ type, content }) => (type === 'softbreak' ? ' ' : content)).join('')
}

/**
 * Makes the front page of README.md: its heading, first sentence and reasons are shown large, and the rest
 * follows as it is.
 *
 * @param {MarkdownRenderer} md
 */
export function frontPage(md) {
  md.core.ruler.push('front-page', ({ tokens, env }) => {
    if (env.relativePath !== 'index.md') return
    const end = tokens.findIndex(({ type }) => type === 'bullet_list_close')
    const intro = tokens.splice(0, end + 1)
    const [name, sentence, ...reasons] = intro.filter(({ type }) => type === 'inline')
    if (intro[0]?.tag !== 'h1' || !name || !sentence || reasons.length === 0) {
      throw new Error('README.md must begin with its name, a sentence and a list of reasons')
    }
    Object.assign(env.frontmatter, {
      layout: 'home',
      title: `${name.content}: ${plain(sentence)}`,
      titleTemplate: false,
      hero: { name: name.content, text: plain(sentence) },
      features: reasons.map((reason) => feature(md, reason, env)),
    })
  })
}

/**
 * A reason: what is bold at its beginning is the title.
 *
 * @param {MarkdownRenderer} md
 * @param {Tokens[number]} reason
 * @param {unknown} env
 */
function feature(md, { content, children }, env) {
  const parts = children ?? []
  const close = parts.findIndex(({ type }) => type === 'strong_close')
  const begin = parts.findIndex(({ type }) => type === 'strong_open')
  if (close === -1 || parts.slice(0, begin).some((part) => part.content)) {
    throw new Error(`a reason in README.md must begin with bold text: ${content}`)
  }
  const html = (/** @type {Tokens} */ some) => md.renderer.render(some, md.options, env).trim()
  const details = html(parts.slice(close + 1)).replace(/^[,:.]\s*/, '')
  return {
    title: html(parts.slice(begin + 1, close)).replace(/[.:]$/, ''),
    details: details.charAt(0).toUpperCase() + details.slice(1),
  }
}

/**
 * Wide tables scroll in a box of their own, which the keyboard can reach.
 *
 * @param {MarkdownRenderer} md
 */
export function tables(md) {
  md.renderer.rules.table_open = () =>
    '<div class="table" tabindex="0" role="group" aria-label="Table"><table>\n'
  md.renderer.rules.table_close = () => '</table></div>\n'
}

/**
 * The site has a figure of what the documents draw with text, which is legible on a phone, too. On the front
 * page it is above.
 *
 * @param {MarkdownRenderer} md
 */
export function fenceFigure(md) {
  md.core.ruler.push('fence-figure', ({ tokens, env }) => {
    for (const token of tokens) {
      if (token.type !== 'fence' || token.info !== 'text' || !token.content.includes("the data's fence:"))
        continue
      token.type = 'html_block'
      token.content = env.frontmatter.layout === 'home' ? '' : '<FenceFigure />\n'
    }
  })
}

/**
 * Two braces are text, as on GitHub, and not an expression of Vue.
 *
 * @param {MarkdownRenderer} md
 */
export function braces(md) {
  for (const name of /** @type {const} */ (['text', 'code_inline'])) {
    const render = md.renderer.rules[name]
    md.renderer.rules[name] = (...args) => render?.(...args).replaceAll('{{', '&#123;&#123;') ?? ''
  }
}
