import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { WEBHOOKS_CHANNELS, type WebhooksMessages } from 'nestjs-entity-webhooks';

type Name = keyof WebhooksMessages;

/** Collects the messages of channels until `stop()`. */
export class ChannelMessages {
  private readonly all: { name: Name; message: unknown }[] = [];
  private readonly waiting: { name: Name; arrived: () => void }[] = [];
  private readonly ends: (() => void)[] = [];

  constructor(...names: Name[]) {
    for (const name of names) this.listenTo(name);
  }

  private listenTo(name: Name): void {
    const listener = (message: unknown) => {
      this.all.push({ name, message });
      for (const one of this.waiting.splice(0)) {
        if (one.name === name) one.arrived();
        else this.waiting.push(one);
      }
    };
    subscribe(WEBHOOKS_CHANNELS[name], listener);
    this.ends.push(() => unsubscribe(WEBHOOKS_CHANNELS[name], listener));
  }

  of<N extends Name>(name: N): WebhooksMessages[N][] {
    return this.all.filter((one) => one.name === name).map(({ message }) => message as WebhooksMessages[N]);
  }

  /** Settles when the channel has its first message. */
  async first<N extends Name>(name: N): Promise<WebhooksMessages[N]> {
    if (!this.of(name).length) await new Promise<void>((arrived) => this.waiting.push({ name, arrived }));
    return this.of(name)[0]!;
  }

  stop(): void {
    for (const end of this.ends.splice(0)) end();
  }
}
