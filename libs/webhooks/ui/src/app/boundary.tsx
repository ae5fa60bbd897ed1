import { Component, type ReactNode } from 'react';
import { Button } from '../design/button.js';
import { Empty } from '../design/states.js';
import { t } from '../words/words.js';

interface Props {
  readonly children: ReactNode;
}

/** A fault of one screen leaves the others usable. */
export class Boundary extends Component<Props, { readonly hasFailed: boolean }> {
  override state = { hasFailed: false };

  static getDerivedStateFromError() {
    return { hasFailed: true };
  }

  override componentDidMount(): void {
    window.addEventListener('hashchange', this.reset);
  }

  override componentWillUnmount(): void {
    window.removeEventListener('hashchange', this.reset);
  }

  private readonly reset = (): void => this.setState({ hasFailed: false });

  override render(): ReactNode {
    if (!this.state.hasFailed) return this.props.children;
    return (
      <div role="alert">
        <Empty
          isError
          icon="alert"
          title={t('failure.page')}
          text={t('failure.page.text')}
          action={<Button onClick={() => window.location.reload()}>{t('action.reload')}</Button>}
        />
      </div>
    );
  }
}
