import { PayloadFormat } from 'nestjs-entity-webhooks';

export class ChatFormat extends PayloadFormat {
  readonly name = 'chat';
  readonly contentType = 'application/json';

  render({ payload }: { payload: string }): string {
    const { type, data } = JSON.parse(payload) as { type: string; data: { id: number; status: string } };
    return JSON.stringify({ text: `${type}: no. ${data.id} is ${data.status}` });
  }
}
