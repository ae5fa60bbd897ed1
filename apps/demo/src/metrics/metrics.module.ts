import { Controller, Get, Module, Req, Res } from '@nestjs/common';
import { metrics } from '@opentelemetry/api';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import type { Request, Response } from 'express';
import { WebhooksTelemetryModule } from 'nestjs-entity-webhooks/otel';

// The SDK must be registered before the application starts.
const exporter = new PrometheusExporter({ preventServerStart: true });
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [exporter] }));

@Controller('metrics')
class MetricsController {
  @Get()
  metrics(@Req() request: Request, @Res() response: Response): void {
    exporter.getMetricsRequestHandler(request, response);
  }
}

/** Serves the metrics for Prometheus at /metrics. */
@Module({ imports: [WebhooksTelemetryModule.forRoot()], controllers: [MetricsController] })
export class MetricsModule {}
