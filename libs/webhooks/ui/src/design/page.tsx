import { useEffect, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { visible } from './code.js';
import { Icon } from './icon.js';

interface Crumb {
  readonly text: string;
  readonly href: string;
}

interface PageProps {
  readonly title: string;
  /** Beside the title, such as a state. */
  readonly mark?: ReactNode;
  readonly subtitle?: ReactNode;
  readonly crumbs?: readonly Crumb[];
  readonly actions?: ReactNode;
  readonly children: ReactNode;
}

/** The frame of a screen: where one is, its name, and what one can do. */
export function Page({ title, mark, subtitle, crumbs = [], actions, children }: PageProps): ReactNode {
  useEffect(() => {
    document.title = `${title} · ${t('app.name')}`;
  }, [title]);
  return (
    <div className="content">
      <header className="page-head">
        <div className="grow">
          {crumbs.length > 0 && <Crumbs crumbs={crumbs} />}
          <div className="page-title">
            <h1 tabIndex={-1}>{breakable(visible(title))}</h1>
            {mark}
          </div>
          {subtitle !== undefined && (
            <p className="subtitle">{typeof subtitle === 'string' ? visible(subtitle) : subtitle}</p>
          )}
        </div>
        {actions !== undefined && <div className="page-actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

/** A long URL breaks after a slash, not inside a word. */
function breakable(text: string): ReactNode {
  const parts = text.split(/(?<=\/)/);
  return parts.length === 1 ? text : parts.map((part, index) => [index > 0 && <wbr key={index} />, part]);
}

function Crumbs({ crumbs }: { readonly crumbs: readonly Crumb[] }): ReactNode {
  return (
    <nav className="crumbs" aria-label={t('app.path')}>
      {crumbs.map(({ text, href }) => (
        <span key={href} className="row">
          <a href={href}>{text}</a>
          <Icon name="chevron" size={12} />
        </span>
      ))}
    </nav>
  );
}

interface CardProps {
  readonly title?: string;
  readonly actions?: ReactNode;
  readonly isFlush?: boolean;
  readonly children: ReactNode;
}

export function Card({ title, actions, isFlush = false, children }: CardProps): ReactNode {
  return (
    <section className="card">
      {title !== undefined && (
        <div className="card-head">
          <h2>{title}</h2>
          {actions !== undefined && <div className="row">{actions}</div>}
        </div>
      )}
      {isFlush ? children : <div className="card-body">{children}</div>}
    </section>
  );
}

export type FactList = readonly (readonly [name: string, value: ReactNode])[];

interface FactsProps {
  readonly facts: FactList;
  /** The first one takes twice as much room, for a URL. */
  readonly isFirstWide?: boolean;
}

/** Names and values. A value of `null` is left out. */
export function Facts({ facts, isFirstWide = false }: FactsProps): ReactNode {
  return (
    <dl className={isFirstWide ? 'facts wide' : 'facts'}>
      {facts
        .filter(([, value]) => value !== null)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

interface BannerProps {
  readonly tone: 'blue' | 'red' | 'amber' | 'green';
  readonly title: string;
  readonly children?: ReactNode;
  readonly actions?: ReactNode;
}

export function Banner({ tone, title, children, actions }: BannerProps): ReactNode {
  return (
    <div className={`banner ${tone}`}>
      <Icon name={tone === 'green' ? 'check' : tone === 'blue' ? 'info' : 'alert'} size={18} />
      <div className="grow">
        <div className="banner-title">{visible(title)}</div>
        {children}
      </div>
      {actions !== undefined && <div className="banner-actions">{actions}</div>}
    </div>
  );
}
