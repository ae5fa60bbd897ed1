import type { CatalogType } from '../catalog/catalog-type.js';
import type { WebhookCatalog } from '../catalog/webhook-catalog.js';
import type { EventCatalog } from '../listeners/event-catalog.js';

/** The event types that one kind of caller sees, and the catalogue for their documents. */
export class EventTypesView {
  private readonly documents = new Map<string, string>();

  constructor(
    readonly catalog: WebhookCatalog,
    private readonly known: EventCatalog,
    private readonly isOwned: boolean,
  ) {}

  find(type: string): CatalogType | undefined {
    return this.catalog.types.find((one) => one.type === type);
  }

  /** Properties that filters may name. */
  propertiesOf(type: string): string[] {
    return this.known.fieldsOf([type], this.isOwned).names().toSorted();
  }

  /** Made at the first use. */
  document(name: string, make: (catalog: WebhookCatalog) => string): string {
    const made = this.documents.get(name) ?? make(this.catalog);
    this.documents.set(name, made);
    return made;
  }
}

/**
 * The event catalogue of one instance. The first use loads the code of the catalogue and makes the catalogue: once for owners, and once for
 * operators.
 */
export class EventTypes {
  private readonly views = new Map<boolean, Promise<EventTypesView>>();

  constructor(private readonly known: EventCatalog) {}

  /** @param isOwned an owner sees only the types that it may subscribe to */
  viewFor(isOwned: boolean): Promise<EventTypesView> {
    const view = this.views.get(isOwned) ?? this.viewOf(isOwned);
    this.views.set(isOwned, view);
    return view;
  }

  private async viewOf(isOwned: boolean): Promise<EventTypesView> {
    const [{ catalogOf }, { WebhookCatalog: Catalog }] = await Promise.all([
      import('../catalog/catalog-source.js'),
      import('../catalog/webhook-catalog.js'),
    ]);
    const { registry, publishedTypes, hasOperationalEvents } = this.known;
    const { types } = catalogOf(registry, { publishedTypes, operationalEvents: hasOperationalEvents });
    const visible = new Set(this.known.typesFor(isOwned));
    return new EventTypesView(new Catalog(types.filter(({ type }) => visible.has(type))), this.known, isOwned);
  }
}
