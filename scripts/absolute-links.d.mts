export function webUrlOf(repository: string | { url: string } | undefined): string | null;
export function withAbsoluteLinks(markdown: string, file: string, webUrl: string, ref: string): string;
