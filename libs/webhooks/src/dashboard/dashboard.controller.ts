import { Controller, Get, Inject, Param, Req, Res, VERSION_NEUTRAL, type Type } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { DashboardFile } from './dashboard-files.js';
import { ASSET_HEADERS, EMBED_HEADERS, type Headers } from './page-headers.js';
import { answer, redirect, sendFile, type FileRequest } from './send-file.js';

/** A page with its headers. */
export interface Page {
  readonly name: 'dashboard' | 'portal';
  readonly file: DashboardFile;
  readonly headers: Headers;
}

const NOT_FOUND = Buffer.from('There is no such file.');

// Each `forRoot` has its own class, because Nest stores the path on the class. This metadata of @nestjs/swagger keeps the routes out of
// the application's OpenAPI document. The application need not have that package.
const EXCLUDED = ['swagger/apiExcludeController', [true]] as const;

/** Serves one page. */
export function pageController(path: string, { name, file, headers }: Page): Type {
  @Controller({ path: `${path}/${name}`, version: VERSION_NEUTRAL })
  class WebhooksPageController {
    constructor(@Inject(HttpAdapterHost) private readonly host: HttpAdapterHost) {}

    @Get()
    page(@Req() request: FileRequest, @Res() response: object): void {
      const [url = ''] = (request.originalUrl ?? request.url).split('?', 1);
      if (url.endsWith('/')) redirect(this.host, response, `../${name}`);
      else sendFile(this.host, request, response, { file, headers });
    }

    // A path with a slash at the end. On Fastify it reaches this route, on Express it reaches `page()`. See `setWildcards()`.
    below(@Req() request: FileRequest, @Res() response: object): void {
      const [url = ''] = (request.originalUrl ?? request.url).split('?', 1);
      if (url.endsWith(`/${name}/`)) redirect(this.host, response, `../${name}`);
      else answer(response, 404, NOT_FOUND);
    }
  }
  Reflect.defineMetadata(...EXCLUDED, WebhooksPageController);
  return WebhooksPageController;
}

/** Sets the paths of the catch-all routes, which Express and Fastify write differently. Call it before the routes are registered. */
export function setWildcards(controllers: readonly Type[], framework: string): void {
  for (const { prototype } of controllers as readonly { prototype: object }[]) {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, 'below');
    if (descriptor) Get(framework === 'fastify' ? '*' : '*path')(prototype, 'below', descriptor);
  }
}

/** Serves the scripts and styles of the pages. */
export function assetsController(path: string, files: ReadonlyMap<string, DashboardFile>): Type {
  @Controller({ path: `${path}/assets`, version: VERSION_NEUTRAL })
  class WebhooksAssetsController {
    constructor(@Inject(HttpAdapterHost) private readonly host: HttpAdapterHost) {}

    @Get(':file')
    asset(@Param('file') name: string, @Req() request: FileRequest, @Res() response: object): void {
      const file = files.get(name);
      if (file) sendFile(this.host, request, response, { file, headers: ASSET_HEADERS });
      else answer(response, 404, NOT_FOUND);
    }
  }
  Reflect.defineMetadata(...EXCLUDED, WebhooksAssetsController);
  return WebhooksAssetsController;
}

/** Serves the script that puts the portal into another page. Its name contains no hash, because pages of other applications refer to it. */
export function embedController(path: string, file: DashboardFile): Type {
  @Controller({ path: `${path}/embed.js`, version: VERSION_NEUTRAL })
  class WebhooksEmbedController {
    constructor(@Inject(HttpAdapterHost) private readonly host: HttpAdapterHost) {}

    @Get()
    embed(@Req() request: FileRequest, @Res() response: object): void {
      sendFile(this.host, request, response, { file, headers: EMBED_HEADERS });
    }
  }
  Reflect.defineMetadata(...EXCLUDED, WebhooksEmbedController);
  return WebhooksEmbedController;
}
