import type { ComponentProps, ReactNode } from 'react';
import { Icon, type IconName } from './icon.js';

interface Look {
  readonly kind?: 'primary' | 'secondary' | 'ghost' | 'danger' | 'danger-quiet';
  readonly icon?: IconName;
  readonly isSmall?: boolean;
}

function classOf({ kind = 'secondary', isSmall = false }: Look, isIconOnly: boolean): string {
  return ['button', kind, isSmall && 'small', isIconOnly && 'icon-only'].filter(Boolean).join(' ');
}

type ButtonProps = Look & ComponentProps<'button'> & { readonly isBusy?: boolean };

/** A busy button keeps the focus, and does nothing: browsers take the focus from a disabled one. */
export function Button({ kind, icon, isSmall, isBusy = false, children, ...rest }: ButtonProps): ReactNode {
  return (
    <button
      type="button"
      className={classOf({ ...(kind && { kind }), ...(isSmall && { isSmall }) }, children === undefined)}
      {...rest}
      {...(isBusy && { 'aria-disabled': true, onClick: (event) => event.preventDefault() })}
    >
      {isBusy ? (
        <span className="spin">
          <Icon name="refresh" />
        </span>
      ) : (
        icon && <Icon name={icon} />
      )}
      {children}
    </button>
  );
}

export function LinkButton({ kind, icon, isSmall, children, ...rest }: Look & ComponentProps<'a'>): ReactNode {
  return (
    <a className={classOf({ ...(kind && { kind }), ...(isSmall && { isSmall }) }, children === undefined)} {...rest}>
      {icon && <Icon name={icon} />}
      {children}
    </a>
  );
}
