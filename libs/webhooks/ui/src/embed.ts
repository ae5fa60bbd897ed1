/**
 * `<webhooks-portal fetch-session="/my/session" next="/listeners" theme="auto">`: shows the portal in a frame, gives it tokens, and follows
 * its height. Pages of the application load this script, so it adds no style and no global name.
 */

interface Message {
  readonly type?: unknown;
  readonly height?: unknown;
  readonly path?: unknown;
  readonly code?: unknown;
}

const MIN_HEIGHT_PX = 320;
/** The URL of this script. The portal is served at the same path. */
const script = (document.currentScript as HTMLScriptElement | null)?.src ?? '';

class WebhooksPortal extends HTMLElement {
  private frame: HTMLIFrameElement | undefined;
  private readonly origin = new URL(this.portalUrl()).origin;
  private readonly receive = (event: MessageEvent<Message | null>): void => this.read(event);

  connectedCallback(): void {
    const frame = document.createElement('iframe');
    frame.title = this.getAttribute('label') ?? 'Webhooks';
    frame.allow = 'clipboard-write';
    frame.style.cssText = `display:block;width:100%;border:0;color-scheme:normal;height:${MIN_HEIGHT_PX}px`;
    frame.addEventListener('load', () => this.post({ type: 'webhooks:hello', next: this.getAttribute('next') }));
    window.addEventListener('message', this.receive);
    frame.src = this.portalUrl();
    this.frame = frame;
    this.append(frame);
  }

  disconnectedCallback(): void {
    window.removeEventListener('message', this.receive);
    this.frame?.remove();
    this.frame = undefined;
  }

  /** Gives the frame a token that the page has by other means. */
  setToken(token: string): void {
    this.post({ type: 'webhooks:token', token });
  }

  private portalUrl(): string {
    return this.getAttribute('src') ?? new URL('portal', script || document.baseURI).href;
  }

  private post(message: object): void {
    this.frame?.contentWindow?.postMessage(message, this.origin);
  }

  private read({ source, origin, data }: MessageEvent<Message | null>): void {
    if (source !== this.frame?.contentWindow || origin !== this.origin) return;
    switch (data?.type) {
      case 'webhooks:token-needed':
        void this.fetchToken();
        break;
      case 'webhooks:height':
        this.frame.style.height = `${Math.max(Number(data.height) || 0, MIN_HEIGHT_PX)}px`;
        break;
      case 'webhooks:navigate':
        this.emit('webhooks:navigate', { path: data.path });
        break;
      case 'webhooks:error':
        this.emit('webhooks:error', { code: data.code });
        break;
      default:
    }
  }

  /** The route of the application answers with `{ token }`, or with the token alone. */
  private async fetchToken(): Promise<void> {
    const url = this.getAttribute('fetch-session');
    if (url === null) {
      this.emit('webhooks:token-needed', {});
      return;
    }
    try {
      const response = await fetch(url, { credentials: 'same-origin', headers: { accept: 'application/json' } });
      if (!response.ok) throw new Error(`${url} answered ${response.status}`);
      const text = await response.text();
      this.setToken(text.startsWith('{') ? (JSON.parse(text) as { token: string }).token : text.trim());
    } catch (error) {
      this.emit('webhooks:error', { code: 'SESSION_NOT_FETCHED', message: String(error) });
    }
  }

  private emit(name: string, detail: object): void {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }
}

if (!customElements.get('webhooks-portal')) customElements.define('webhooks-portal', WebhooksPortal);
