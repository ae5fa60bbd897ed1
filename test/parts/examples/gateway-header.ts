import { HttpService } from '@nestjs/axios';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { InjectWebhooksHttp } from 'nestjs-entity-webhooks';

@Injectable()
export class GatewayHeader implements OnModuleInit {
  constructor(@InjectWebhooksHttp() private readonly http: HttpService) {}

  onModuleInit(): void {
    this.http.axiosRef.interceptors.request.use((config) => {
      config.headers.set('x-gateway-key', 'k-123');
      return config;
    });
  }
}
