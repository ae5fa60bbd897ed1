import { context, metrics, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One line of what the exporter serves. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The SDK of an application: a Prometheus exporter, and spans that stay in memory. Register it before the application starts. */
export class Telemetry {
  readonly spans = new InMemorySpanExporter();
  private readonly exporter = new PrometheusExporter({ preventServerStart: true });
  private readonly server: Server = createServer((request, response) =>
    this.exporter.getMetricsRequestHandler(request, response),
  );

  async start(): Promise<this> {
    metrics.setGlobalMeterProvider(new MeterProvider({ readers: [this.exporter] }));
    trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(this.spans)] }));
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    await new Promise<void>((listening) => this.server.listen(0, '127.0.0.1', listening));
    return this;
  }

  /** What a Prometheus server would read. */
  async scrape(): Promise<string> {
    const { port } = this.server.address() as AddressInfo;
    return (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  }

  async samples(): Promise<Sample[]> {
    return samplesOf(await this.scrape());
  }

  /** The value of the only sample with this name and these labels; `undefined` if there is none. */
  async value(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number | undefined> {
    const found = (await this.samples()).filter(
      (sample) =>
        sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
    if (found.length > 1) throw new Error(`${found.length} samples of ${name}: name more labels`);
    return found[0]?.value;
  }

  async stop(): Promise<void> {
    metrics.disable();
    trace.disable();
    context.disable();
    await new Promise((closed) => this.server.close(closed));
  }
}

const LINE = /^([a-z_:][\w:]*)(?:\{(.*)\})? (\S+)/i;
const LABEL = /([a-z_]\w*)="((?:[^"\\]|\\.)*)"/gi;

export function samplesOf(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line && !line.startsWith('#'))
    .map((line) => {
      const [, name = '', labels = '', value = ''] = LINE.exec(line) ?? [];
      const pairs = [...labels.matchAll(LABEL)].map(([, label = '', text = '']): [string, string] => [label, text]);
      return { name, labels: Object.fromEntries(pairs), value: Number(value) };
    });
}
