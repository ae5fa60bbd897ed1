import { Inject, Module, type DynamicModule, type NestModule, type Type } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { resolveTable, type Resolved } from '../option-table.js';
import { dashboardFiles, type DashboardFile } from './dashboard-files.js';
import { DASHBOARD_OPTIONS, LOCALES, type WebhooksDashboardOptions } from './dashboard-options.js';
import { assetsController, embedController, pageController, setWildcards, type Page } from './dashboard.controller.js';
import { DASHBOARD_HEADERS, portalHeaders } from './page-headers.js';
import { pageFile } from './page.js';

const CONTROLLERS = Symbol('nestjs-entity-webhooks:dashboard-controllers');

/**
 * Serves a page for operators and a page for customers. Both use the API of `WebhooksApiModule`. See `docs/dashboard.md`.
 *
 * @example
 * \@Module({
 *   imports: [
 *     WebhooksModule.forRoot(),
 *     WebhooksApiModule.forRoot({ guards: [LoginGuard], access, sessions: { keys } }),
 *     WebhooksDashboardModule.forRoot({ portal: { embedOrigins: ['https://app.example.com'] } }),
 *   ],
 * })
 * export class AppModule {}
 */
@Module({})
export class WebhooksDashboardModule implements NestModule {
  /** @internal */
  constructor(
    @Inject(CONTROLLERS) private readonly controllers: readonly Type[],
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  /** @throws ConfigurationError `INVALID_OPTION`, `DASHBOARD_FILES_MISSING` */
  static forRoot(given: WebhooksDashboardOptions = {}): DynamicModule {
    const options = resolveTable(DASHBOARD_OPTIONS, given, { name: 'WebhooksDashboardModule' });
    const controllers = controllersOf(options);
    for (const decorate of options.decorators) for (const controller of controllers) decorate(controller);
    return {
      module: WebhooksDashboardModule,
      controllers,
      providers: [{ provide: CONTROLLERS, useValue: controllers }],
    };
  }

  /** Runs after Nest knows the HTTP framework, and before any route is registered. */
  configure(): void {
    setWildcards(this.controllers, this.host.httpAdapter?.getType() ?? '');
  }
}

function controllersOf(options: Resolved<typeof DASHBOARD_OPTIONS>): Type[] {
  const { path, portal } = options;
  const { byName, entries } = dashboardFiles();
  const controllers = pagesOf(options).map((page) => pageController(path, page));
  if (portal) controllers.push(embedController(path, byName.get(entries.embed) as DashboardFile));
  return [...controllers, assetsController(path, byName)];
}

function pagesOf({ operators, portal }: Resolved<typeof DASHBOARD_OPTIONS>): Page[] {
  const { entries } = dashboardFiles();
  const pages: Page[] = [];
  if (operators) {
    const file = pageFile(entries, { page: 'dashboard', parents: [], locales: LOCALES });
    pages.push({ name: 'dashboard', file, headers: DASHBOARD_HEADERS });
  }
  if (portal) {
    const { embedOrigins, ...looks } = portal;
    const file = pageFile(entries, { page: 'portal', parents: embedOrigins, ...looks });
    pages.push({ name: 'portal', file, headers: portalHeaders(embedOrigins) });
  }
  return pages;
}
