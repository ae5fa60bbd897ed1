import { Controller, Get, Module } from '@nestjs/common';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { WebhooksHealthIndicator } from 'nestjs-entity-webhooks/terminus';

@Controller('health')
class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly webhooks: WebhooksHealthIndicator,
  ) {}

  /** The check for liveness. If this check fails, restart the process. */
  @Get('live')
  @HealthCheck()
  live() {
    return this.health.check([() => this.webhooks.isAlive('webhooks')]);
  }

  /** The check for readiness. If this check fails, look at the database and the dispatcher. */
  @Get('ready')
  @HealthCheck()
  ready() {
    return this.health.check([() => this.webhooks.isKeepingUp('webhooks')]);
  }
}

@Module({
  imports: [TerminusModule],
  controllers: [HealthController],
  providers: [WebhooksHealthIndicator],
})
export class HealthModule {}
